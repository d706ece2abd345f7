"""r04 shared: the previous line stays on the chip.

Idea: three threads need each value of h[i-1], one barrier after it was computed. Shared memory
holds two lines. Line i is written to one while line i - 1 is read from the other, so one barrier
per line is enough. A zero at both ends of each line stands for the neighbour outside it.

Also: three storage types. The lines in shared memory are float32 whatever the tensors store. h is
rounded when it is written to global memory, and never on its way down the scan.

Backward keeps g of the next line in the same two lines of shared memory, so it needs no scratch
tensor. It reads wl one column to the right and wr one column to the left, each element once.

Changes since r03: neighbours of h (forward) and g (backward) are read from shared memory instead
of global memory.

Expect: in forward the L1 hit rate falls to near 0, and l1tex load sectors fall by a third (five
loads per element instead of eight). The time hardly changes: L1 already served h[i-1], and each
line still waits for its own loads (long_scoreboard stalls).

Source: arXiv 2512.07884, section 3.2 (shared memory).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.block_rung import Block, block_rung
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.launch_limits import MAX_REGISTERS, passes_of
from gspn2bench.kernels.storage import storage


@cache
def build_forward(block: Block) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    load, store = storage(block.dtype)
    threads, one_pass, up = block.lanes, block.one_pass, block.upward
    halo_line = block.length + 2
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

        # Zeros stand for h before the first line and for neighbours outside the line.
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
def build_backward(block: Block) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    load, store = storage(block.dtype)
    threads, one_pass, up = block.lanes, block.one_pass, block.upward
    halo_line = block.length + 2
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


RUNG = block_rung(
    id="r04",
    title="shared",
    idea="the previous line in shared memory, double-buffered, one barrier per line",
    source="arXiv 2512.07884, section 3.2",
    build_forward=build_forward,
    build_backward=build_backward,
    neighbours="shared",
)
