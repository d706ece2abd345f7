"""Profiles with Nsight Systems and Nsight Compute. Nothing here uses CUDA.

``command`` builds the command lines and ``runner`` runs them. ``nsys`` and ``ncu`` read the files
of the tools into a trace, and ``figures`` turns a trace into the stored ``Profile``.
"""
