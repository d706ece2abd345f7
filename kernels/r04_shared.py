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

from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import Array, bound, kernel
from gspn2bench.kernels.launch import (
    MAX_REGISTERS,
    backward_arrays,
    beyond_grid,
    beyond_line,
    forward_arrays,
    whole_warps,
)
from gspn2bench.kernels.math import adjoint, recurrence
from gspn2bench.kernels.storage import storage
from gspn2bench.kernels.transposed import (
    beyond_tiles,
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
    single = length <= threads  # known to the compiler: the loop over a line is then one turn
    halo_line = length + 2
    two_lines = 2 * halo_line

    @kernel("r04_shared_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        first = (cuda.blockIdx.x % chunks) * chunk
        last = min(first + chunk, height)
        thread, turns = cuda.threadIdx.x, 1 if single else -(-width // threads)
        line = cuda.shared.array(two_lines, np.float32)

        # Zeros stand for h before the first line and for the neighbours outside the line.
        for j in range(thread, two_lines, threads):
            line[j] = np.float32(0)
        cuda.syncthreads()

        before, after = 0, halo_line
        for step in range(first, last):
            row = height - 1 - step if up else step
            for turn in range(turns):
                column = thread + turn * threads
                if column < width:
                    at = np.uint64(slice_start + row * width + column)
                    value = recurrence(
                        load(wl, at), line[before + column],
                        load(wm, at), line[before + column + 1],
                        load(wr, at), line[before + column + 2],
                        load(lam, at), load(x, at),
                    )  # fmt: skip
                    line[after + column + 1] = value
                    store(h, at, value)
            before, after = after, before
            cuda.syncthreads()

    return forward


@cache
def build_backward(length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    load, store = storage(dtype)
    threads = whole_warps(length)
    single = length <= threads  # known to the compiler: the loop over a line is then one turn
    halo_line = length + 2
    two_lines = 2 * halo_line

    @kernel("r04_shared_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        first = (cuda.blockIdx.x % chunks) * chunk
        last = min(first + chunk, height)
        thread, turns = cuda.threadIdx.x, 1 if single else -(-width // threads)
        pitch = -width if up else width  # from a line to the next one in scan order
        one = np.uint64(1)
        line = cuda.shared.array(two_lines, np.float32)

        for j in range(thread, two_lines, threads):
            line[j] = np.float32(0)
        cuda.syncthreads()

        after, now = 0, halo_line
        for step in range(last - 1, first - 1, -1):
            row = height - 1 - step if up else step
            for turn in range(turns):
                column = thread + turn * threads
                if column < width:
                    here = slice_start + row * width + column
                    at = np.uint64(here)

                    g = load(grad_h, at)
                    if step + 1 < last:
                        below = np.uint64(here + pitch)
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
                    line[now + column + 1] = g
                    store(grad_x, at, load(lam, at) * g)
                    store(grad_lam, at, load(x, at) * g)

                    left = middle = right = np.float32(0)
                    if step > first:
                        before = np.uint64(here - pitch)
                        middle = load(h, before)
                        if column > 0:
                            left = load(h, before - one)
                        if column + 1 < width:
                            right = load(h, before + one)
                    store(grad_wl, at, g * left)
                    store(grad_wm, at, g * middle)
                    store(grad_wr, at, g * right)
            after, now = now, after
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
    return bound(compiled, grid, block, *arrays, *sizes)


def launches(problem: ScanProblem) -> int:
    return 1 + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    return compulsory_traffic(problem) + transposed_traffic(problem)


def supports(problem: ScanProblem) -> str | None:
    if problem.weights != "channel":
        return "weights: shared; r04 has a set for each channel"
    return beyond_line(problem) or beyond_grid(problem) or beyond_tiles(problem)


RUNG = Rung(
    id="r04",
    title="shared",
    idea="the line before in shared memory, double-buffered, one barrier a line",
    source="arXiv 2512.07884, section 3.2",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    supports=supports,
    traffic=traffic,
)
