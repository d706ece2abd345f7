"""Bytes that a rung moves, by three methods: model, simulator trace, and hardware counters.

``run`` records a run, and ``rows`` makes its rows. ``tracer`` traces kernels in the simulator.
``counters`` runs Nsight Compute on the program in ``ncu_target``.
"""
