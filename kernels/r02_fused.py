"""r02 fused: one launch, with the loop over the lines inside the kernel.

Idea: a block owns a slice and walks its lines. A barrier replaces the launch that separated two
lines in r01. Up to 1024 threads lie along the line; on a longer line each thread takes every
1024th position. Memory access is that of r01: the scan runs right, neighbouring threads are a row
apart, and a block reads h[i-1] back from global memory, where it wrote it before the barrier. So
fusing removes the launches and nothing else.

Also: a scan can be cut into chunks, each with a block of its own. Chunks run side by side.
grid.x holds 2**31 - 1 blocks, so one launch is always enough.

Backward walks the chunk from its last line to its first. Each thread gathers from the next line.
As in r01, the whole gradient g of h is in a float32 scratch tensor in global memory.

Changes since r01: the loop over the lines moves from the host into the kernel.

Expect: launches fall to 1. Sectors per request stay near 32. On long lines the time falls by less
than a third. What remains is mostly the wait for loads (long_scoreboard stalls).

Source: arXiv 2512.07884, section 3.2 (fused kernel).
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
    threads, one_pass = block.lanes, block.one_pass

    @kernel("r02_fused_forward", max_registers=MAX_REGISTERS)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(height, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, width)
        one, pitch = np.uint64(1), np.uint64(width)

        for column in range(start, stop):
            for pass_ in range(passes):
                row = thread + pass_ * threads
                if row < height:
                    index = np.uint64(slice_start + row * width + column)
                    left = middle = right = np.float32(0)
                    if column > start:
                        before = index - one
                        middle = h[before]
                        if row > 0:
                            left = h[before - pitch]
                        if row + 1 < height:
                            right = h[before + pitch]
                    h[index] = recurrence(
                        wl[index], left, wm[index], middle, wr[index], right, lam[index], x[index]
                    )
            cuda.syncthreads()  # the block's h[i] is in global memory before column i + 1 reads it

    return forward


@cache
def build_backward(block: Block) -> Any:
    """Compile the kernel that walks back through one chunk of one slice per block."""
    threads, one_pass = block.lanes, block.one_pass

    @kernel("r02_fused_backward", max_registers=MAX_REGISTERS)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, width: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = cuda.threadIdx.x
        passes = 1 if one_pass else passes_of(height, threads)
        slice_start = (cuda.blockIdx.x // chunks) * height * width
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, width)
        one, pitch = np.uint64(1), np.uint64(width)

        for column in range(stop - 1, start - 1, -1):
            for pass_ in range(passes):
                row = thread + pass_ * threads
                if row < height:
                    index = np.uint64(slice_start + row * width + column)

                    total = grad_h[index]
                    if column + 1 < stop:
                        after = index + one
                        from_left = from_right = w_left = w_right = np.float32(0)
                        if row > 0:
                            w_left, from_left = wr[after - pitch], g[after - pitch]
                        if row + 1 < height:
                            w_right, from_right = wl[after + pitch], g[after + pitch]
                        total = adjoint(
                            total, wm[after], g[after], w_right, from_right, w_left, from_left
                        )
                    g[index] = total
                    grad_x[index] = lam[index] * total
                    grad_lam[index] = x[index] * total

                    left = middle = right = np.float32(0)
                    if column > start:
                        before = index - one
                        middle = h[before]
                        if row > 0:
                            left = h[before - pitch]
                        if row + 1 < height:
                            right = h[before + pitch]
                    grad_wl[index] = total * left
                    grad_wm[index] = total * middle
                    grad_wr[index] = total * right
            cuda.syncthreads()

    return backward


RUNG = block_rung(
    id="r02",
    title="fused",
    idea="one launch, the loop inside; one block per chunk of a slice, still uncoalesced",
    source="arXiv 2512.07884, section 3.2",
    build_forward=build_forward,
    build_backward=build_backward,
    neighbours="global",
    native="right",
)
