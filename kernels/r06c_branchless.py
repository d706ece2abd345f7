"""r06c branchless: the main loop has no branches, so it waits once per pass of the ring.

Idea: a warp tracks outstanding loads with six scoreboards. Waiting on one waits for every load
assigned to it, and the compiler assigns all loads of the ring to one. In r06b they are behind
checks, so the warp waits at every line, for the lines ahead too. Without branches it waits once per
pass of the ring. So the main loop runs while every line has one to load DEPTH ahead; a loop with
checks computes the last lines. A thread outside the line loads its last word and stores nothing.

Changes since r06b: no branches in the main loop.

Expect: long_scoreboard stalls fall, and DRAM throughput reaches that of a copy, 86 % of peak:
0.78 ms on figure 3, as r07. Shared weights: 0.5 to 0.55 ms on an H200, where r07 has 0.455.

Source: ours.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r06a_columns import computing
from gspn2bench.kernels.r06b_ring import DEPTH, fetch
from gspn2bench.kernels.word_rung import WordBlock, word_rung


@cache
def build(block: WordBlock) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads, pack, upward, shared = block.threads, block.pack, block.upward, block.shared
    line_words, word, compute = block.line_words, block.word_type, computing(block)
    full, last_columns = block.full, threads + 2
    line, two_lines, ring_size = 2 * last_columns, 4 * last_columns, 5 * DEPTH

    @device_function
    def scan_line(ring: Array, k: int, own: Array, edges: Array, index: int, h: Array) -> None:
        before, after, thread = (k + 1) % 2 * line, k % 2 * line, cuda.threadIdx.x
        left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
        result = compute(ring, 5 * k, own, left, beyond)
        if full or thread < line_words:
            h[index] = result
            edges[after + thread + 1] = own[0]
            edges[after + last_columns + thread + 1] = own[pack - 1]

    @kernel("r06c_branchless_forward", max_registers=block.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread, own_slice = cuda.threadIdx.x, cuda.blockIdx.x // chunks
        weight_slice = own_slice // channels if shared else own_slice
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        row = height - 1 - start if upward else start
        stride = -line_words if upward else line_words
        column = thread if full else min(thread, line_words - 1)
        index = np.uint64((own_slice * height + row) * line_words + column)
        w = np.uint64((weight_slice * height + row) * line_words + column)
        edges = cuda.shared.array(two_lines, np.float32)
        ring, own = cuda.local.array(ring_size, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        for k in range(DEPTH):
            if start + k < stop:
                fetch(ring, k, move(index, k * stride), move(w, k * stride), x, lam, wl, wm, wr)
        cuda.syncthreads()

        while start + 2 * DEPTH <= stop:
            for k in range(DEPTH):
                scan_line(ring, k, own, edges, move(index, k * stride), h)
                cuda.syncthreads()
                ahead = (k + DEPTH) * stride
                fetch(ring, k, move(index, ahead), move(w, ahead), x, lam, wl, wm, wr)
            index, w = move(index, DEPTH * stride), move(w, DEPTH * stride)
            start += DEPTH
        ahead = DEPTH * stride
        for first in range(start, stop, DEPTH):
            for k in range(DEPTH):
                if first + k < stop:
                    scan_line(ring, k, own, edges, index, h)
                    cuda.syncthreads()
                    if first + k + DEPTH < stop:
                        fetch(ring, k, move(index, ahead), move(w, ahead), x, lam, wl, wm, wr)
                    index, w = move(index, stride), move(w, stride)

    return forward


RUNG = word_rung(
    id="r06c",
    title="branchless",
    idea="no branches in the main loop: it waits for loads once per pass of the ring",
    source="ours",
    build=build,
)
