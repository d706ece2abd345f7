"""r04 shared: the line before stays on the chip.

Idea: h[i-1] is wanted by three threads one barrier after it was computed. Two lines of shared
memory take turns: line i is written to one while line i - 1 is read from the other, so that one
barrier a line is enough. A zero on either side of each line stands for the neighbour outside it.
The line is float32 whatever the tensors store, so that h is rounded on its way out and never on
its way down the scan.

Backward holds the gradient g of the line after in the same two lines, and so needs no scratch
tensor. It writes no weight products: it reads wl one column to the right and wr one to the left,
each element once.

Changes since r03: neighbours of h (forward) and g (backward) come from shared memory, not from
global memory; three storage types.

Expect: the L1 hit rate falls to near 0 in the forward pass, l1tex load sectors fall by a third
(five loads an element, not eight), and the time hardly moves: L1 already served h[i-1]. Each line
still waits for its own loads (long_scoreboard stalls).

Source: arXiv 2512.07884, section 3.2 (shared memory).
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
    line_limit_reason,
    passes_of,
    whole_warps,
)
from gspn2bench.kernels.operand_arrays import backward_arrays, forward_arrays
from gspn2bench.kernels.storage import storage
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem


@cache
def build_forward(length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel for a line's length, a direction and a storage type."""
    load, store = storage(dtype)
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
    two_lines = 2 * halo_line

    @kernel("r04_shared_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(width, threads)
        line = cuda.shared.array(two_lines, np.float32)

        # Zeros stand for h before the first line and for the neighbours outside the line.
        for j in range(thread, two_lines, threads):
            line[j] = np.float32(0)
        cuda.syncthreads()

        before, after = 0, halo_line
        for step in range(start, stop):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = thread + pass_ * threads
                if column < width:
                    index = np.uint64(slice_start + row * width + column)
                    value = recurrence(
                        load(wl, index), line[before + column],
                        load(wm, index), line[before + column + 1],
                        load(wr, index), line[before + column + 2],
                        load(lam, index), load(x, index),
                    )  # fmt: skip
                    line[after + column + 1] = value
                    store(h, index, value)
            before, after = after, before
            cuda.syncthreads()

    return forward


@cache
def build_backward(length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    load, store = storage(dtype)
    threads = whole_warps(length)
    one_pass = length <= threads  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
    two_lines = 2 * halo_line

    @kernel("r04_shared_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(width, threads)
        pitch = -width if up else width  # from a line to the next one in scan order
        one = np.uint64(1)
        line = cuda.shared.array(two_lines, np.float32)

        for j in range(thread, two_lines, threads):
            line[j] = np.float32(0)
        cuda.syncthreads()

        after, current = 0, halo_line
        for step in range(stop - 1, start - 1, -1):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = thread + pass_ * threads
                if column < width:
                    offset = slice_start + row * width + column
                    index = np.uint64(offset)

                    g = load(grad_h, index)
                    if step + 1 < stop:
                        below = np.uint64(offset + pitch)
                        w_left = w_right = np.float32(0)
                        if column > 0:
                            w_left = load(wr, below - one)
                        if column + 1 < width:
                            w_right = load(wl, below + one)
                        g = adjoint(
                            g,
                            load(wm, below), line[after + column + 1],
                            w_right, line[after + column + 2],
                            w_left, line[after + column],
                        )  # fmt: skip
                    line[current + column + 1] = g
                    store(grad_x, index, load(lam, index) * g)
                    store(grad_lam, index, load(x, index) * g)

                    left = middle = right = np.float32(0)
                    if step > start:
                        before = np.uint64(offset - pitch)
                        middle = load(h, before)
                        if column > 0:
                            left = load(h, before - one)
                        if column + 1 < width:
                            right = load(h, before + one)
                    store(grad_wl, index, g * left)
                    store(grad_wm, index, g * middle)
                    store(grad_wr, index, g * right)
            after, current = current, after
            cuda.syncthreads()

    return backward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_forward(problem.width, problem.direction == "up", problem.dtype)
    return _call(compiled, problem, forward_arrays(operands))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    compiled = build_backward(problem.width, problem.direction == "up", problem.dtype)
    return _call(compiled, problem, backward_arrays(operands))


def _call(compiled: Any, problem: ScanProblem, arrays: list[Array]) -> Call:
    grid, block = problem.slices * problem.chunks, whole_warps(problem.width)
    sizes = (problem.height, problem.width, problem.chunk_length, problem.chunks)
    return bind_launch(compiled, grid, block, *arrays, *sizes)


def launches(problem: ScanProblem) -> int:
    return 1 + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    return compulsory_traffic(problem) + transposed_traffic(problem)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.weights != "channel":
        return "weights: shared; r04 has a set for each channel"
    return line_limit_reason(problem) or grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r04",
    title="shared",
    idea="the line before in shared memory, double-buffered, one barrier a line",
    source="arXiv 2512.07884, section 3.2",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
