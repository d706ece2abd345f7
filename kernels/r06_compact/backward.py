"""Backward of r06: the gradient of w is summed over the channels, in a fixed order.

Once shared memory holds g of a line for every channel of the block, the threads are reassigned.
Row y takes neighbour k = y, y + cSlice, ... of the weights, and each thread adds its positions
over the channels. Where the channels of an image fill several blocks, each block writes float32
partial sums, and a second launch adds them. A single block that loops over all channels would not
need it, but would occupy only as many multiprocessors as there are images.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint
from gspn2bench.kernels.block_rung import Block
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.launch_limits import passes_of
from gspn2bench.kernels.r06_compact.shape import max_registers
from gspn2bench.kernels.storage import storage

SUM_THREADS: Final = 256
"""Threads per block of the second launch."""


@cache
def build_backward(block: Block, partial: bool) -> Any:
    """Compile the kernel that walks back through one chunk of ``cslice`` channels per block.

    Args:
        block: its shape.
        partial: whether the sums go to a float32 scratch tensor instead of the gradient of w.
    """
    load, store = storage(block.dtype)
    store_sum = storage("float32")[1] if partial else store
    lanes, cslice = block.lanes, block.cslice
    one_pass, up = block.one_pass, block.upward
    halo_line = block.length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r06_compact_backward", max_registers=max_registers(block))
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

            # Shared memory now holds g of this line for every channel of the block. The next line's
            # g goes to the other buffer, so these reads need no second barrier.
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
    """Compile the kernel that adds the partial sums of the groups, one element per thread."""
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
