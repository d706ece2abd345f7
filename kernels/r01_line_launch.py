"""r01 line launch: GSPN-1, one small launch per line.

Idea: the host walks the scan. Each launch computes one line of every slice, with one thread per
element and 512 threads per block. The scan runs right, along the contiguous axis. So a line is a
column of the plane, and neighbouring threads access addresses a whole row apart.

Backward is W launches too, from the last column to the first. Each thread gathers from the next
column, so no atomics are needed. Between the launches the whole gradient g of h is in a float32
scratch tensor.

In every rung arrays are flat and indices unsigned. For a signed index Numba adds instructions that
count a negative one from the end of the array, as Python does. A uint64 and an int64 must not meet
in one expression, since Numba computes it in float64. So an index is computed in signed or 32-bit
integers and cast to uint64 last.

Expect: W launches per pass. Each load of a warp touches 32 sectors of 32 bytes for 128 useful bytes
(l1tex sectors per request near 32). h[i-1] is read three times from global memory. DRAM throughput
stays far below the roofline.

Source: arXiv 2501.12381, section 3; arXiv 2512.07884, section 3.1 (baseline).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import WARP, Array, bind_launch, kernel
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.problem import MAX_EXTENT, ScanProblem, ceil_div

THREADS = 512


@cache
def build_forward() -> Any:
    """Compile the kernel that computes one column of every slice."""

    @kernel("r01_line_launch_forward")
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, lines: int, column: int,
    ) -> None:  # fmt: skip
        thread = np.uint32(cuda.grid(1))  # (n * C + c) * H + row
        if thread >= lines:
            return
        row = np.uint32(thread % np.uint32(height))
        index = np.uint64(thread) * np.uint64(width) + np.uint64(column)
        left = middle = right = np.float32(0)
        if column > 0:
            before = index - np.uint64(1)
            middle = h[before]
            if row > 0:
                left = h[before - np.uint64(width)]
            if row + 1 < height:
                right = h[before + np.uint64(width)]
        h[index] = recurrence(
            wl[index], left, wm[index], middle, wr[index], right, lam[index], x[index]
        )

    return forward


@cache
def build_backward() -> Any:
    """Compile the kernel that computes the gradients of one column of every slice."""

    @kernel("r01_line_launch_backward")
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, width: int, lines: int, column: int,
    ) -> None:  # fmt: skip
        thread = np.uint32(cuda.grid(1))
        if thread >= lines:
            return
        row = np.uint32(thread % np.uint32(height))
        index = np.uint64(thread) * np.uint64(width) + np.uint64(column)
        one, pitch = np.uint64(1), np.uint64(width)

        total = grad_h[index]
        if column + 1 < width:
            after = index + one
            from_left = from_right = w_left = w_right = np.float32(0)
            if row > 0:
                w_left, from_left = wr[after - pitch], g[after - pitch]
            if row + 1 < height:
                w_right, from_right = wl[after + pitch], g[after + pitch]
            total = adjoint(total, wm[after], g[after], w_right, from_right, w_left, from_left)
        g[index] = total
        grad_x[index] = lam[index] * total
        grad_lam[index] = x[index] * total

        left = middle = right = np.float32(0)
        if column > 0:
            before = index - one
            middle = h[before]
            if row > 0:
                left = h[before - pitch]
            if row + 1 < height:
                right = h[before + pitch]
        grad_wl[index] = total * left
        grad_wm[index] = total * middle
        grad_wr[index] = total * right

    return backward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    columns = range(problem.width)
    return _call(build_forward(), problem, forward_arrays(operands), columns)


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    arrays = [*backward_arrays(operands), scratch(operands, operands.h.numel())]
    columns = range(problem.width - 1, -1, -1)
    return _call(build_backward(), problem, arrays, columns)


def _call(compiled: Any, problem: ScanProblem, arrays: list[Array], columns: range) -> Call:
    lines = problem.slices * problem.height
    block = min(THREADS, ceil_div(lines, WARP) * WARP)
    grid = ceil_div(lines, block)
    sizes = (problem.height, problem.width, lines)
    launches = [bind_launch(compiled, grid, block, *arrays, *sizes, column) for column in columns]

    def call() -> None:
        for launch in launches:
            launch()

    return call


def traffic(problem: ScanProblem) -> int:
    elements = problem.slices * problem.plane if problem.phase == "backward" else 0
    return compulsory_traffic(problem) + scratch_traffic(elements)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.dtype != "float32":
        return f"dtype: {problem.dtype}; r01 stores float32"
    if problem.direction != "right":
        return f"direction: {problem.direction}; r01 scans right, as GSPN-1 does"
    if problem.weights != "channel":
        return "weights: shared; GSPN-1 has one set per channel"
    if problem.chunk_length != problem.steps:
        return f"chunk: {problem.chunk_length}; r01 scans the whole length"
    if problem.slices * problem.height > MAX_EXTENT:
        return f"batch * channels * height: above {MAX_EXTENT}, r01's 32-bit thread index"
    return None


RUNG = Rung(
    id="r01",
    title="line launch",
    idea="GSPN-1: the host launches one kernel per line, uncoalesced",
    source="arXiv 2501.12381, section 3",
    native="right",
    forward=bind_forward,
    launches=lambda problem: problem.steps,
    backward=bind_backward,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
