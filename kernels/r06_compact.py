"""r06 compact: one set of weights for all channels of an image.

Idea: compact channel propagation. The three weights of a position serve every channel, so that
w[3, N, H, W] replaces w[3, N, C, H, W] and a scan moves 3 + 3 / C elements a position instead of 6.
This is another function than r05's, with fewer weights: its gain is the operator's, not the
kernel's. A block is r05's, but its slices are channels of one image and chunk: they read the same
weights at the same step, once from memory and then from the L1 cache. Where one block holds too
few channels, others of the image find the weights in L2.

Backward sums the gradient of w over the channels, in a fixed order and without atomics. Once a
line's g is in shared memory for every channel of the block, its threads are dealt out anew: row y
takes neighbour k = y, y + cSlice, ... and each thread adds up its positions over the channels. An
image with more channels than a block holds leaves one float32 partial sum for each block's group
of channels, and a second launch adds those up. One block that loops over all channels would need
no second launch, but would leave a GPU with as many busy multiprocessors as there are images.

Changes since r05: weights shared by the channels; a block's slices are channels of one image.

Expect: dram bytes fall towards a half forward (3 + 3 / C elements a position instead of 6), the L1
and L2 hit rates rise with the channels, and launches are 2 in a backward pass with many channels.

Source: arXiv 2512.07884, section 3.3 (compact channel propagation). The order of the sum is ours.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import Array, bind_launch, flat, kernel
from gspn2bench.kernels.launch_limits import (
    MAX_LINE,
    MAX_REGISTERS,
    MAX_THREADS,
    grid_limit_reason,
    line_limit_reason,
    passes_of,
    whole_warps,
)
from gspn2bench.kernels.operand_arrays import backward_arrays, forward_arrays, scratch
from gspn2bench.kernels.r05_block2d import MIN_BLOCKS, Config
from gspn2bench.kernels.storage import storage
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem, ceil_div

BLOCK_THREADS: Final = 512
"""Threads up to which a block takes in channels: each may then use twice MAX_REGISTERS registers,
which backward needs, but for a block of one line of up to 1024 positions."""
SUM_THREADS: Final = 256
"""Threads of a block of the second launch."""


def choose(problem: ScanProblem) -> Config:
    """Lanes for the whole line, and as many channels as fit while blocks stay many."""
    lanes = whole_warps(problem.line) if problem.line <= MAX_THREADS else BLOCK_THREADS
    spread = problem.slices * problem.chunks // MIN_BLOCKS
    fit = min(BLOCK_THREADS // lanes, (MAX_LINE + 2) // (problem.line + 2))
    return Config(lanes, max(1, min(fit, problem.channels, spread)))


def max_registers(config: Config) -> int:
    """Registers a thread, so that one block fits a multiprocessor."""
    return MAX_REGISTERS * (2 if config.lanes * config.cslice <= BLOCK_THREADS else 1)


def groups(problem: ScanProblem) -> int:
    """Blocks that share the channels of an image."""
    return ceil_div(problem.channels, choose(problem).cslice)


@cache
def build_forward(config: Config, length: int, up: bool, dtype: str) -> Any:
    """Compile the kernel for a block's shape, a line's length, a direction and a storage type."""
    load, store = storage(dtype)
    lanes, cslice = config.lanes, config.cslice
    one_pass = length <= lanes  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r06_compact_forward", max_registers=max_registers(config))
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        channels: int, groups: int, height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        lane, y = cuda.threadIdx.x, cuda.threadIdx.y
        passes = 1 if one_pass else passes_of(width, lanes)
        group = cuda.blockIdx.x // chunks % groups
        image = cuda.blockIdx.x // chunks // groups
        channel = group * cslice + y
        # A thread without a channel owns no columns, but comes to every barrier.
        columns = width if channel < channels else 0
        slice_start = (image * channels + channel) * height * width
        image_start = image * height * width  # in w
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
                    weight = np.uint64(image_start + row * width + column)
                    value = recurrence(
                        load(wl, weight), line[before + column],
                        load(wm, weight), line[before + column + 1],
                        load(wr, weight), line[before + column + 2],
                        load(lam, index), load(x, index),
                    )  # fmt: skip
                    line[after + column + 1] = value
                    store(h, index, value)
            before, after = after, before
            cuda.syncthreads()

    return forward


@cache
def build_backward(config: Config, length: int, up: bool, dtype: str, partial: bool) -> Any:
    """Compile the kernel that walks back through one chunk of a group of channels per block.

    Args:
        config: the block's shape.
        length: positions of a line.
        up: scan direction.
        dtype: storage type.
        partial: the block's sum goes to a float32 scratch tensor, not to the gradient of w.
    """
    load, store = storage(dtype)
    store_sum = storage("float32")[1] if partial else store
    lanes, cslice = config.lanes, config.cslice
    one_pass = length <= lanes  # a constant: the compiler then removes the loop over passes
    halo_line = length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r06_compact_backward", max_registers=max_registers(config))
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, sums: Array,
        images: int, channels: int, groups: int, height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        lane, y = cuda.threadIdx.x, cuda.threadIdx.y
        passes = 1 if one_pass else passes_of(width, lanes)
        group = cuda.blockIdx.x // chunks % groups
        image = cuda.blockIdx.x // chunks // groups
        members = min(cslice, channels - group * cslice)
        columns = width if y < members else 0
        plane = height * width
        group_start = (image * channels + group * cslice) * plane
        slice_start = group_start + y * plane
        image_start = image * plane
        sum_pitch = images * plane
        sum_start = group * 3 * sum_pitch + image_start
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        pitch = -width if up else width  # from a line to the next one in scan order
        one = np.uint64(1)
        line = cuda.shared.array(all_lines, np.float32)
        after, current = 0, halo_line
        own = y * two_lines

        for j in range(lane, two_lines, lanes):
            line[own + j] = np.float32(0)
        cuda.syncthreads()

        for step in range(stop - 1, start - 1, -1):
            row = height - 1 - step if up else step
            for pass_ in range(passes):
                column = lane + pass_ * lanes
                if column < columns:
                    index = np.uint64(slice_start + row * width + column)
                    g = load(grad_h, index)
                    if step + 1 < stop:
                        below = np.uint64(image_start + row * width + pitch + column)
                        w_left = w_right = np.float32(0)
                        if column > 0:
                            w_left = load(wr, below - one)
                        if column + 1 < width:
                            w_right = load(wl, below + one)
                        halo = own + after + column
                        g = adjoint(
                            g,
                            load(wm, below), line[halo + 1],
                            w_right, line[halo + 2],
                            w_left, line[halo],
                        )  # fmt: skip
                    line[own + current + column + 1] = g
                    store(grad_x, index, load(lam, index) * g)
                    store(grad_lam, index, load(x, index) * g)
            cuda.syncthreads()

            # g of the line is there for every channel of the block. The next line's g goes to the
            # other buffer, so that no second barrier has to part it from these reads.
            for k in range(3):
                for pass_ in range(passes if k % cslice == y else 0):
                    column = lane + pass_ * lanes
                    neighbour = column + k - 1
                    if column < width:
                        total = np.float32(0)
                        if step > start and neighbour >= 0 and neighbour < width:
                            before = group_start + row * width - pitch + neighbour
                            for member in range(members):
                                g = line[member * two_lines + current + column + 1]
                                total += g * load(h, np.uint64(before + member * plane))
                        index = np.uint64(sum_start + k * sum_pitch + row * width + column)
                        store_sum(sums, index, total)
            after, current = current, after

    return backward


@cache
def build_sum(dtype: str) -> Any:
    """Compile the kernel that adds up the groups' partial sums, one element a thread."""
    store = storage(dtype)[1]

    @kernel("r06_compact_sum")
    def add_up(sums: Array, grad_w: Array, groups: int, elements: int) -> None:
        index = cuda.blockIdx.x * SUM_THREADS + cuda.threadIdx.x
        if index < elements:
            total = np.float32(0)
            for group in range(groups):
                total += sums[np.uint64(group * elements + index)]
            store(grad_w, np.uint64(index), total)

    return add_up


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    compiled = build_forward(config, problem.width, problem.direction == "up", problem.dtype)
    arrays = forward_arrays(operands)
    sizes = (problem.channels, groups(problem), *_lengths(problem))
    grid, block = _shape(problem, config)
    return bind_launch(compiled, grid, block, *arrays, *sizes)


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    assert operands.grad_w is not None
    config, count = choose(problem), groups(problem)
    up, partial = problem.direction == "up", count > 1
    compiled = build_backward(config, problem.width, up, problem.dtype, partial)
    grad_w, elements = flat(operands.grad_w), operands.grad_w.numel()
    sums = grad_w
    if partial:
        sums = scratch(operands, count * elements)
    arrays = [*backward_arrays(operands)[:-3], sums]  # all but the planes of the gradient of w
    sizes = (problem.batch, problem.channels, count, *_lengths(problem))
    grid, block = _shape(problem, config)
    scan = bind_launch(compiled, grid, block, *arrays, *sizes)
    if not partial:
        return scan
    sum_grid = ceil_div(elements, SUM_THREADS)
    compiled_sum = build_sum(problem.dtype)
    add_up = bind_launch(compiled_sum, sum_grid, SUM_THREADS, sums, grad_w, count, elements)

    def call() -> None:
        scan()
        add_up()

    return call


def _shape(problem: ScanProblem, config: Config) -> tuple[int, tuple[int, int]]:
    """Grid and block."""
    blocks = problem.batch * groups(problem) * problem.chunks
    return blocks, (config.lanes, config.cslice)


def _lengths(problem: ScanProblem) -> tuple[int, int, int, int]:
    return problem.height, problem.width, problem.chunk_length, problem.chunks


def _partial(problem: ScanProblem) -> bool:
    """True where a backward pass leaves partial sums for a second launch."""
    return problem.phase == "backward" and groups(problem) > 1


def launches(problem: ScanProblem) -> int:
    return 1 + _partial(problem) + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    again = 0
    if _partial(problem):
        again = 2 * 4 * groups(problem) * math.prod(problem.weight_shape)
    return compulsory_traffic(problem) + again + transposed_traffic(problem)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.weights != "shared":
        return "weights: channel; r06 has one set for all channels of an image"
    return line_limit_reason(problem) or grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r06",
    title="compact",
    idea="one set of weights for all channels; their gradient summed over channels in order",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
