"""r02 fused: one launch, the loop over the lines inside the kernel.

Idea: a block owns one chunk of one slice and walks its lines, with a barrier where GSPN-1 had a
launch. Up to 1024 threads lie along the line; on longer lines each takes every 1024th position.
What the threads touch is what r01 touched: the scan is "right", neighbouring threads are a row
apart, and h[i-1] is read again from global memory, where the block wrote it before the barrier.
So fusing alone takes away the launches and little else.

Backward walks the chunk from its last line to its first and gathers from the line after. As r01
does, it keeps the whole gradient g in a float32 scratch tensor in global memory.

Chunks are blocks like slices are: grid.x holds 2**31 - 1 of them, so one launch is enough.

Changes since r01: the loop is inside the kernel, chunks run side by side.

Expect: launches 1. Sectors per request still near 32. Where lines are long, the time falls by less
than a third, and most of what is left is the wait for loads (long_scoreboard stalls).

Source: arXiv 2512.07884, section 3.2 (fused kernel).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic, one_launch
from gspn2bench.kernels.jit import Array, bind_launch, kernel
from gspn2bench.kernels.launch_limits import (
    MAX_REGISTERS,
    grid_limit_reason,
    passes_of,
    whole_warps,
)
from gspn2bench.kernels.operand_arrays import backward_arrays, forward_arrays, scratch
from gspn2bench.problem import ScanProblem


@cache
def build_forward(length: int) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes

    @kernel("r02_fused_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(height, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, width)
        one, pitch = np.uint64(1), np.uint64(width)

        for column in range(start, stop):
            for pass_ in range(passes):
                row = thread + pass_ * threads
                if row < height:
                    index = np.uint64(slice_start + row * width + column)
                    left = middle = right = np.float32(0)
                    if column > start:
                        before = index - one
                        middle = h[before]
                        if row > 0:
                            left = h[before - pitch]
                        if row + 1 < height:
                            right = h[before + pitch]
                    h[index] = recurrence(
                        wl[index], left, wm[index], middle, wr[index], right, lam[index], x[index]
                    )
            cuda.syncthreads()  # the block's h[i] is in global memory before column i + 1 reads it

    return forward


@cache
def build_backward(length: int) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes

    @kernel("r02_fused_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(height, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, width)
        one, pitch = np.uint64(1), np.uint64(width)

        for column in range(stop - 1, start - 1, -1):
            for pass_ in range(passes):
                row = thread + pass_ * threads
                if row < height:
                    index = np.uint64(slice_start + row * width + column)

                    total = grad_h[index]
                    if column + 1 < stop:
                        after = index + one
                        from_left = from_right = w_left = w_right = np.float32(0)
                        if row > 0:
                            w_left, from_left = wr[after - pitch], g[after - pitch]
                        if row + 1 < height:
                            w_right, from_right = wl[after + pitch], g[after + pitch]
                        total = adjoint(
                            total, wm[after], g[after], w_right, from_right, w_left, from_left
                        )
                    g[index] = total
                    grad_x[index] = lam[index] * total
                    grad_lam[index] = x[index] * total

                    left = middle = right = np.float32(0)
                    if column > start:
                        before = index - one
                        middle = h[before]
                        if row > 0:
                            left = h[before - pitch]
                        if row + 1 < height:
                            right = h[before + pitch]
                    grad_wl[index] = total * left
                    grad_wm[index] = total * middle
                    grad_wr[index] = total * right
            cuda.syncthreads()

    return backward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_forward(problem.height)
    return _call(compiled, problem, forward_arrays(operands))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_backward(problem.height)
    g = scratch(operands, operands.h.numel())
    return _call(compiled, problem, [*backward_arrays(operands), g])


def _call(compiled: Any, problem: ScanProblem, arrays: list[Array]) -> Call:
    grid, block = problem.slices * problem.chunks, whole_warps(problem.height)
    sizes = (problem.height, problem.width, problem.chunk_length, problem.chunks)
    return bind_launch(compiled, grid, block, *arrays, *sizes)


def traffic(problem: ScanProblem) -> int:
    again = 2 * 4 * problem.slices * problem.plane if problem.phase == "backward" else 0
    return compulsory_traffic(problem) + again


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.dtype != "float32":
        return f"dtype: {problem.dtype}; r02 re-reads h[i-1] as stored: it must be exact"
    if problem.direction != "right":
        return f"direction: {problem.direction}; r02 scans right, as r01 does"
    if problem.weights != "channel":
        return "weights: shared; r02 has a set for each channel"
    return grid_limit_reason(problem)


RUNG = Rung(
    id="r02",
    title="fused",
    idea="one launch, the loop inside; a block for each chunk of each slice, still uncoalesced",
    source="arXiv 2512.07884, section 3.2",
    native="right",
    forward=bind_forward,
    launches=one_launch,
    backward=bind_backward,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
