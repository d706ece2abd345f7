"""r03 coalesced: neighbouring threads access neighbouring addresses.

Idea: the same loop, but the scan runs down or up, so a line is a row. The 32 lanes of a warp load
32 consecutive floats: four sectors of 32 bytes, all of them used. A block owns one chunk of one
slice. Thread t owns columns t, t + threads, ... of every line. h[i-1] still comes from global
memory, where it was written one barrier earlier; most of it is served by the L1 cache.

Also: every direction. "right" and "left" run on transposed copies, which are made and undone
inside the call: see transposed.py.

Backward walks the chunk from its last line to its first. Each thread gathers from the next line,
so no atomics are needed. g is in a float32 scratch tensor in global memory, as in r02.

Changes since r02: the scan axis is H, and lanes lie along the contiguous axis.

Expect: l1tex sectors per request fall from 32 to 4 (5 where a neighbour is read). DRAM throughput
rises more than tenfold. The L1 hit rate is near a third, because h[i-1] is read three times.

Source: arXiv 2512.07884, section 3.2 (coalesced access).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import adjoint, recurrence
from gspn2bench.kernels.block_rung import Block, block_rung
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.launch_limits import MAX_REGISTERS, passes_of


@cache
def build_forward(block: Block) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads, one_pass, up = block.lanes, block.one_pass, block.upward

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
def build_backward(block: Block) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    threads, one_pass, up = block.lanes, block.one_pass, block.upward

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


RUNG = block_rung(
    id="r03",
    title="coalesced",
    idea="lanes along the contiguous axis: a warp loads 32 consecutive elements",
    source="arXiv 2512.07884, section 3.2",
    build_forward=build_forward,
    build_backward=build_backward,
    neighbours="global",
)
