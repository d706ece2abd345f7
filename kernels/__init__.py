"""The ladder: one file a rung, from GSPN-1's launch per line to the fused GSPN-2 kernel.

``ladder.py`` holds the one list of rungs. ``contract.py`` says what a rung is, ``math.py`` has the
arithmetic that all rungs share, ``jit.py`` is the only caller of the compiler, and
``reference.py`` is the float64 scan that every rung is held to.
"""
