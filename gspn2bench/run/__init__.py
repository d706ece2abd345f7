"""From cases to recorded rows.

``sweep`` records a run, and ``worker`` runs its cases in a worker process. ``interleave`` measures
the rungs of a case in alternating sample blocks. ``trial`` makes the rows of one rung, and
``preflight`` checks a rung before anything is timed.
"""
