"""Kernels that measure the machine, not the scan."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.jit import WARP, Array, kernel


@cache
def build_step() -> Any:
    """The minimal scan step: neighbours through shared memory, one barrier, no loads.

    One warp walks ``steps`` dependent lines of 32 columns. Its time per step is a lower bound for
    every rung that passes neighbours through shared memory.
    """
    line_size = 2 * (WARP + 2)

    @kernel("probe_step")
    def step(out: Array, steps: int) -> None:
        line = cuda.shared.array(line_size, np.float32)
        thread = np.uint32(cuda.threadIdx.x)
        for j in range(thread, line_size, WARP):
            line[j] = np.float32(1)
        cuda.syncthreads()
        own = np.float32(1)
        third = np.float32(0.333)
        before, after = np.uint32(0), np.uint32(WARP + 2)
        for _ in range(steps):
            own = third * own + third * line[before + thread] + third * line[before + thread + 2]
            line[after + thread + 1] = own
            before, after = after, before
            cuda.syncthreads()
        out[thread] = own

    return step
