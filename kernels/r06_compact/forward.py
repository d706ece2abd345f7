"""Forward of r06: the threads of one position in several channels read the same weights."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import recurrence
from gspn2bench.kernels.block_rung import Block
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.launch_limits import passes_of
from gspn2bench.kernels.r06_compact.shape import max_registers
from gspn2bench.kernels.storage import storage


@cache
def build_forward(block: Block) -> Any:
    """Compile the kernel that scans one chunk of ``cslice`` channels of an image per block."""
    load, store = storage(block.dtype)
    lanes, cslice = block.lanes, block.cslice
    one_pass, up = block.one_pass, block.upward
    halo_line = block.length + 2
    two_lines = 2 * halo_line
    all_lines = cslice * two_lines

    @kernel("r06_compact_forward", max_registers=max_registers(block))
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        channels: int, groups: int, height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        lane, y = cuda.threadIdx.x, cuda.threadIdx.y
        passes = 1 if one_pass else passes_of(width, lanes)
        group = cuda.blockIdx.x // chunks % groups
        image = cuda.blockIdx.x // chunks // groups
        channel = group * cslice + y
        # A thread without a channel owns no columns, but reaches every barrier.
        columns = width if channel < channels else 0
        slice_start = (image * channels + channel) * height * width
        image_start = image * height * width  # in w
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
