"""From cases to rows: a worker process, a preflight check, and interleaved measurement.

``sweep`` records a run. ``worker`` runs each case in a process of its own. ``interleave`` measures
the rungs of a case in alternating blocks, ``trial`` makes the rows of one rung, and ``preflight``
checks a rung before anything is timed.
"""
