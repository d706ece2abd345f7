"""Profiles under Nsight Systems and Nsight Compute: their commands, and what the files say.

``command`` builds the command lines, ``runner`` runs them, ``nsys`` and ``ncu`` read what they
leave, ``figures`` makes a stored ``Profile`` of it. Nothing here touches CUDA.
"""
