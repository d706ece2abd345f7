"""The ladder: one file per rung, from GSPN-1's launch per line to the fused GSPN-2 kernel.

``ladder.py`` is the one list of rungs. ``contract.py`` defines a rung. ``arithmetic.py`` is the
arithmetic that all rungs share. ``jit.py`` is the only caller of the compiler. ``reference.py`` is
the float64 scan that the gate compares every rung with.
"""
