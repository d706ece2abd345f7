"""One line of shared memory and two barriers a line: what does r04's second line save?"""

from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.contract import Call, Operands, Rung, one_launch
from gspn2bench.kernels.jit import Array, bound, kernel
from gspn2bench.kernels.launch import MAX_REGISTERS, MAX_THREADS, forward_arrays
from gspn2bench.kernels.math import recurrence
from gspn2bench.problem import ScanProblem


def build_forward(width: int) -> Any:
    """A block for each slice, a thread for each column."""
    slots = width + 2  # what the kernel takes from here is constant to the compiler

    @kernel("my_rung_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array, height: int
    ) -> None:
        column = cuda.threadIdx.x
        at = np.int64(cuda.blockIdx.x) * height * width + column
        line = cuda.shared.array(slots, np.float32)  # a zero on either side
        for i in range(column, slots, width):
            line[i] = np.float32(0)
        cuda.syncthreads()
        for _ in range(height):
            left, middle, right = line[column], line[column + 1], line[column + 2]
            cuda.syncthreads()  # every thread has read the line before
            h[at] = line[column + 1] = recurrence(
                wl[at], left, wm[at], middle, wr[at], right, lam[at], x[at]
            )
            cuda.syncthreads()  # every thread has written this one
            at += width

    return forward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    """Compile and take the arguments here: what the call returned does is timed."""
    compiled, arrays = build_forward(problem.width), forward_arrays(operands)
    return bound(compiled, problem.slices, problem.width, *arrays, problem.height)


def supports(problem: ScanProblem) -> str | None:
    """The reason to skip a problem, which its row then gives; None to run it."""
    plain = ScanProblem(problem.batch, problem.channels, problem.height, problem.width)
    if problem != plain:
        return "mine runs a plain forward scan: float32, down, a set of weights for each channel"
    if problem.width > MAX_THREADS:
        return f"width: {problem.width} is above {MAX_THREADS}, the threads of a block"
    return None


RUNG = Rung(
    id="mine",
    title="one line",
    idea="the line before in shared memory, once: two barriers a line",
    source="docs/own-kernel.md",
    native="down",
    forward=bind_forward,
    launches=one_launch,
    supports=supports,
)
