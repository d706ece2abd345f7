"""Bytes that a rung moves: by model, by a trace in the simulator, and by hardware counters.

``run`` records them, ``rows`` makes the rows, ``tracer`` traces the simulator, ``counters`` runs
Nsight Compute on the program of ``ncu_target``.
"""
