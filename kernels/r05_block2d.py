"""r05 block2d: several slices per block.

Idea: a line of 64 columns fills only two warps, and a multiprocessor runs out of block slots
before it runs out of threads. So a block is two-dimensional: threadIdx.x lies along the line, and
threadIdx.y selects one of ``cslice`` slices. blockDim.x is a whole number of warps, so a warp
works on one slice and its loads stay contiguous. The slices of a block take the same steps. They
share only the barrier.

A block takes several slices only if every multiprocessor still gets a block. On long lines, or
with few slices, a block is that of r04.

The last group of slices may be incomplete. Its threads without a slice load and store nothing,
but they reach every barrier.

Changes since r04: blockDim is (line, cSlice), and the grid has fewer blocks.

Expect: with short lines and many slices, more active warps per multiprocessor (achieved
occupancy) and fewer block launches. Bytes and sectors do not change.

Source: arXiv 2512.07884, section 3.2 (2-D thread blocks).
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.block_rung import Block, block_of, block_rung, plane_sizes
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.launch_limits import MAX_REGISTERS, passes_of, whole_warps
from gspn2bench.kernels.storage import storage
from gspn2bench.problem import ScanProblem

BLOCK_THREADS: Final = 256
"""Most threads in a block of several slices: larger blocks spread less evenly."""
MIN_BLOCKS: Final = 132
"""Fewest blocks that several slices per block may leave: one per multiprocessor of an H200."""


def choose(problem: ScanProblem) -> Block:
    """Lanes for the whole line, up to 1024; slices while blocks stay small and many."""
    lanes = whole_warps(problem.line)
    spread = problem.slices * problem.chunks // MIN_BLOCKS
    cslice = min(BLOCK_THREADS // lanes, problem.slices, spread)
    return block_of(problem, lanes, max(1, cslice))


def sizes(problem: ScanProblem) -> tuple[int, ...]:
    return problem.slices, *plane_sizes(problem)


@cache
def build_forward(block: Block) -> Any:
    """Compile the kernel that scans one chunk of ``cslice`` slices per block."""
    load, store = storage(block.dtype)
    lanes, cslice = block.lanes, block.cslice
    one_pass, up = block.one_pass, block.upward
    halo_line = block.length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r05_block2d_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        slices: int, height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        lane, y = cuda.threadIdx.x, cuda.threadIdx.y
        passes = 1 if one_pass else passes_of(width, lanes)
        own_slice = cuda.blockIdx.x // chunks * cslice + y
        slice_start = own_slice * height * width
        # A thread without a slice owns no columns, but reaches every barrier.
        columns = width if own_slice < slices else 0
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        line = cuda.shared.array(all_lines, np.float32)
        before = y * two_lines
        after = before + halo_line

        # Zeros stand for h before the first line and for neighbours outside the line.
        for j in range(lane, two_lines, lanes):
            line[before + j] = np.float32(0)
        cuda.syncthreads()

        for step in range(start, stop):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = lane + pass_ * lanes
                if column < columns:
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
    """Compile the kernel that walks back through one chunk of ``cslice`` slices per block."""
    load, store = storage(block.dtype)
    lanes, cslice = block.lanes, block.cslice
    one_pass, up = block.one_pass, block.upward
    halo_line = block.length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r05_block2d_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array,
        slices: int, height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        lane, y = cuda.threadIdx.x, cuda.threadIdx.y
        passes = 1 if one_pass else passes_of(width, lanes)
        own_slice = cuda.blockIdx.x // chunks * cslice + y
        slice_start = own_slice * height * width
        columns = width if own_slice < slices else 0
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        pitch = -width if up else width  # from a line to the next one in scan order
        one = np.uint64(1)
        line = cuda.shared.array(all_lines, np.float32)
        after = y * two_lines
        current = after + halo_line

        for j in range(lane, two_lines, lanes):
            line[after + j] = np.float32(0)
        cuda.syncthreads()

        for step in range(stop - 1, start - 1, -1):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = lane + pass_ * lanes
                if column < columns:
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
    id="r05",
    title="block2d",
    idea="blockDim (line, cSlice): several slices per block, one per warp",
    source="arXiv 2512.07884, section 3.2",
    build_forward=build_forward,
    build_backward=build_backward,
    neighbours="shared",
    choose=choose,
    sizes=sizes,
)
