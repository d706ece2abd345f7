"""Kernels that measure the machine, not the scan: one warp, many dependent steps, no loads.

Each takes the number of steps. Two lengths give the time per step without the launch. ``out`` has
two values per lane: the first is read, and is 0; the result replaces the second.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.jit import WARP, Array, kernel

UNROLLED_FMAS: Final = 100
"""FMAs between two branches of the loop, which then cost little: a divisor of the steps."""
UNROLLED_LINES: Final = 10
"""Lines between two branches of the loop of shuffles: a divisor of the steps."""
_ALL_LANES: Final = 0xFFFFFFFF


@cache
def build_fma_chain() -> Any:
    """A chain of dependent FMAs. ``steps``: their number, a multiple of ``UNROLLED_FMAS``.

    Each line of a scan waits for the line before it through at least one FMA, so no rung that
    computes line after line can be faster: see ``ScanProblem.dependent_fmas``.
    """

    @kernel("probe_fma")
    def chain(out: Array, steps: int) -> None:
        thread = np.uint32(cuda.threadIdx.x)
        own = out[thread]
        factor, addend = own + np.float32(0.333), own + np.float32(0.5)
        for _ in range(steps // UNROLLED_FMAS):
            for _ in range(UNROLLED_FMAS):
                own = cuda.fma(factor, own, addend)
        out[thread + WARP] = own

    return chain


@cache
def build_shuffle_step() -> Any:
    """A line as one shuffle and two dependent FMAs. ``steps``: a multiple of ``UNROLLED_LINES``.

    The least step of a design that shuffles once per line. One with several columns per lane needs
    less than one shuffle per line and can be faster.
    """

    @kernel("probe_shuffle")
    def step(out: Array, steps: int) -> None:
        thread = np.uint32(cuda.threadIdx.x)
        own = out[thread]
        factor, addend = own + np.float32(0.333), own + np.float32(0.5)
        for _ in range(steps // UNROLLED_LINES):
            for _ in range(UNROLLED_LINES):
                neighbour = cuda.shfl_up_sync(_ALL_LANES, own, 1)
                own = cuda.fma(factor, own, cuda.fma(factor, neighbour, addend))
        out[thread + WARP] = own

    return step


@cache
def build_step() -> Any:
    """A line with neighbours through shared memory and one barrier. ``steps``: the lines.

    The least step of a design that passes every line through shared memory, as r04 to r07 do.
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
        out[thread + WARP] = own

    return step
