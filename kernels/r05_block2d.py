"""r05 block2d: several slices in one block.

Idea: a line of 64 columns fills two warps, and a multiprocessor full of such blocks runs out of
block slots before it runs out of threads. So a block is two-dimensional: threadIdx.x lies along
the line, threadIdx.y picks one of ``cslice`` slices. blockDim.x is a whole number of warps, so
that each warp is pinned to one slice and its loads stay one run of addresses. The slices of a
block do the same steps and share nothing but the barrier.

A block takes more slices only while every multiprocessor still has a block to run; on long lines,
and where slices are few, there is nothing to gather and a block is r04's.

The last group of slices may be ragged: its threads without a slice load and store nothing, but
come to every barrier.

Changes since r04: blockDim (line, cSlice); the grid shrinks by as much as blocks grow.

Expect: on short lines and many slices, active warps per multiprocessor (achieved occupancy) rise
and the launch of blocks costs less; bytes and sectors stay as they were.

Source: arXiv 2512.07884, section 3.2 (2-D thread blocks).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

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
from gspn2bench.problem import ScanProblem, ceil_div

BLOCK_THREADS: Final = 256
"""Threads up to which a block takes in slices: larger blocks spread less evenly."""
MIN_BLOCKS: Final = 132
"""Blocks worth keeping, whatever their size: one for each multiprocessor of an H200."""


@dataclass(frozen=True)
class Config:
    """The block's shape.

    Args:
        lanes: blockDim.x, along the line; a multiple of a warp.
        cslice: blockDim.y, slices of a block.
    """

    lanes: int
    cslice: int


def choose(problem: ScanProblem) -> Config:
    """Lanes for the whole line, up to 1024, and slices while blocks stay small and many."""
    lanes = whole_warps(problem.line)
    spread = problem.slices * problem.chunks // MIN_BLOCKS
    most = min(BLOCK_THREADS // lanes, problem.slices, spread)
    return Config(lanes, max(1, most))


@cache
def build_forward(config: Config, length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel for a block's shape, a line's length, a direction and a storage type."""
    load, store = storage(dtype)
    lanes, cslice = config.lanes, config.cslice
    one_pass = length <= lanes  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
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
        # A thread without a slice owns no columns, but comes to every barrier.
        columns = width if own_slice < slices else 0
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        line = cuda.shared.array(all_lines, np.float32)
        before = y * two_lines
        after = before + halo_line

        # Zeros stand for h before the first line and for the neighbours outside the line.
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
def build_backward(config: Config, length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel that walks back through one chunk of ``cslice`` slices per block."""
    load, store = storage(dtype)
    lanes, cslice = config.lanes, config.cslice
    one_pass = length <= lanes  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
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


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    compiled = build_forward(config, problem.width, problem.direction == "up", problem.dtype)
    return _call(compiled, config, problem, forward_arrays(operands))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    compiled = build_backward(config, problem.width, problem.direction == "up", problem.dtype)
    return _call(compiled, config, problem, backward_arrays(operands))


def _call(compiled: Any, config: Config, problem: ScanProblem, arrays: list[Array]) -> Call:
    grid = ceil_div(problem.slices, config.cslice) * problem.chunks
    block = (config.lanes, config.cslice)
    sizes = (problem.slices, problem.height, problem.width, problem.chunk_length, problem.chunks)
    return bind_launch(compiled, grid, block, *arrays, *sizes)


def launches(problem: ScanProblem) -> int:
    return 1 + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    return compulsory_traffic(problem) + transposed_traffic(problem)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.weights != "channel":
        return "weights: shared; r05 has a set for each channel"
    return line_limit_reason(problem) or grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r05",
    title="block2d",
    idea="blockDim (line, cSlice): several slices a block, each warp pinned to one",
    source="arXiv 2512.07884, section 3.2",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
