"""One line of shared memory and two barriers per line: how much does r04's second line save?"""

from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung, one_launch
from gspn2bench.kernels.jit import Array, bind_launch, kernel
from gspn2bench.kernels.launch_limits import MAX_REGISTERS, MAX_THREADS
from gspn2bench.kernels.operand_arrays import forward_arrays
from gspn2bench.problem import ScanProblem


def build_forward(width: int) -> Any:
    """Compile the kernel: one block per slice, one thread per column."""
    slots = width + 2  # a variable of this function is a constant in the kernel

    @kernel("my_rung_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array, height: int
    ) -> None:
        column = cuda.threadIdx.x
        index = np.int64(cuda.blockIdx.x) * height * width + column
        line = cuda.shared.array(slots, np.float32)  # a zero on either side
        for i in range(column, slots, width):
            line[i] = np.float32(0)
        cuda.syncthreads()
        for _ in range(height):
            left, middle, right = line[column], line[column + 1], line[column + 2]
            cuda.syncthreads()  # every thread has read the previous line
            h[index] = line[column + 1] = recurrence(
                wl[index], left, wm[index], middle, wr[index], right, lam[index], x[index]
            )
            cuda.syncthreads()  # every thread has written this line
            index += width

    return forward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    """Compile the kernel and lay out its arguments. Only the returned call is timed."""
    compiled, arrays = build_forward(problem.width), forward_arrays(operands)
    return bind_launch(compiled, problem.slices, problem.width, *arrays, problem.height)


def unsupported_reason(problem: ScanProblem) -> str | None:
    """Why the kernel cannot run a problem, which its skipped row then shows; None if it can."""
    plain = ScanProblem(problem.batch, problem.channels, problem.height, problem.width)
    if problem != plain:
        return "mine runs a plain forward scan: float32, down, a set of weights for each channel"
    if problem.width > MAX_THREADS:
        return f"width: {problem.width} is above {MAX_THREADS}, the threads of a block"
    return None


RUNG = Rung(
    id="mine",
    title="one line",
    idea="one line of shared memory: two barriers per line",
    source="docs/own-kernel.md",
    native="down",
    forward=bind_forward,
    launches=one_launch,
    unsupported_reason=unsupported_reason,
)
