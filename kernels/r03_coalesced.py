"""r03 coalesced: neighbouring threads touch neighbouring addresses.

Idea: the same loop in one kernel, but the scan runs down or up, so that a line is a row: 32 lanes
of a warp load 32 consecutive floats, four sectors of 32 bytes with nothing wasted. A block owns one
chunk of one slice; thread t owns columns t, t + threads, ... of every line. h[i-1] still comes
from global memory, where it was written one barrier ago: the L1 cache serves most of it.

Backward walks the chunk from its last line to its first and gathers from the line after, so that
nothing is added up by atomics. It keeps the whole gradient g in global memory too, in a float32
scratch tensor.

"right" and "left" run on transposed copies, made and undone inside the call: transposed.py.

Changes since r02: the scan axis is H, lanes lie along the contiguous axis; nothing else.

Expect: l1tex sectors per request fall from 32 to 4 (5 where a neighbour is read), dram throughput
rises more than tenfold. The L1 hit rate is near a third: h[i-1] is read three times.

Source: arXiv 2512.07884, section 3.2 (coalesced access).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import Array, bind_launch, kernel
from gspn2bench.kernels.launch_limits import (
    MAX_REGISTERS,
    grid_limit_reason,
    passes_of,
    whole_warps,
)
from gspn2bench.kernels.operand_arrays import backward_arrays, forward_arrays, scratch
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem


@cache
def build_forward(length: int, up: bool) -> Any:
    """Compile the kernel that scans one chunk of one slice per block, down or up."""
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes

    @kernel("r03_coalesced_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(width, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        pitch = -width if up else width  # from a line to the next one in scan order
        one = np.uint64(1)

        for step in range(start, stop):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = thread + pass_ * threads
                if column < width:
                    offset = slice_start + row * width + column
                    index = np.uint64(offset)
                    left = middle = right = np.float32(0)
                    if step > start:
                        before = np.uint64(offset - pitch)
                        middle = h[before]
                        if column > 0:
                            left = h[before - one]
                        if column + 1 < width:
                            right = h[before + one]
                    h[index] = recurrence(
                        wl[index], left, wm[index], middle, wr[index], right, lam[index], x[index]
                    )
            cuda.syncthreads()  # the block's h[i] is in global memory before line i + 1 reads it

    return forward


@cache
def build_backward(length: int, up: bool) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes

    @kernel("r03_coalesced_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(width, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        pitch = -width if up else width
        one = np.uint64(1)

        for step in range(stop - 1, start - 1, -1):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = thread + pass_ * threads
                if column < width:
                    offset = slice_start + row * width + column
                    index = np.uint64(offset)

                    total = grad_h[index]
                    if step + 1 < stop:
                        after = np.uint64(offset + pitch)
                        from_left = from_right = w_left = w_right = np.float32(0)
                        if column > 0:
                            w_left, from_left = wr[after - one], g[after - one]
                        if column + 1 < width:
                            w_right, from_right = wl[after + one], g[after + one]
                        total = adjoint(
                            total, wm[after], g[after], w_right, from_right, w_left, from_left
                        )
                    g[index] = total
                    grad_x[index] = lam[index] * total
                    grad_lam[index] = x[index] * total

                    left = middle = right = np.float32(0)
                    if step > start:
                        before = np.uint64(offset - pitch)
                        middle = h[before]
                        if column > 0:
                            left = h[before - one]
                        if column + 1 < width:
                            right = h[before + one]
                    grad_wl[index] = total * left
                    grad_wm[index] = total * middle
                    grad_wr[index] = total * right
            cuda.syncthreads()

    return backward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_forward(problem.width, problem.direction == "up")
    return _call(compiled, problem, forward_arrays(operands))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_backward(problem.width, problem.direction == "up")
    g = scratch(operands, operands.h.numel())
    return _call(compiled, problem, [*backward_arrays(operands), g])


def _call(compiled: Any, problem: ScanProblem, arrays: list[Array]) -> Call:
    grid, block = problem.slices * problem.chunks, whole_warps(problem.width)
    sizes = (problem.height, problem.width, problem.chunk_length, problem.chunks)
    return bind_launch(compiled, grid, block, *arrays, *sizes)


def launches(problem: ScanProblem) -> int:
    return 1 + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    again = 2 * 4 * problem.slices * problem.plane if problem.phase == "backward" else 0
    return compulsory_traffic(problem) + again + transposed_traffic(problem)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.dtype != "float32":
        return f"dtype: {problem.dtype}; r03 re-reads h[i-1] as stored: it must be exact"
    if problem.weights != "channel":
        return "weights: shared; r03 has a set for each channel"
    return grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r03",
    title="coalesced",
    idea="lanes along the contiguous axis: a warp loads 32 consecutive elements",
    source="arXiv 2512.07884, section 3.2",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
