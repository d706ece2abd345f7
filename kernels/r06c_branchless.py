"""r06c branchless: the main loop has no branches, so the ring waits once per pass.

Idea: a warp tracks outstanding loads with six scoreboards. Waiting on one waits for every load
assigned to it. In r06b each line's loads follow a bounds check, and all share a scoreboard: a line
also waits for the loads of later lines. Without branches the warp waits once per pass of the ring.
The main loop runs while every line has one to load DEPTH ahead; r06b's loop computes the rest.

Changes since r06b: no branches in the main loop.

Expect: dram throughput reaches the copy ceiling where slices are as many as multiprocessors.

Source: ours.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r06a_columns import computing, fetch
from gspn2bench.kernels.r06b_ring import DEPTH
from gspn2bench.kernels.word_rung import WordBlock, word_rung


@cache
def build(block: WordBlock) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads, pack, upward, shared = block.threads, block.pack, block.upward, block.shared
    line_words, word, compute = block.line_words, block.word_type, computing(block)
    full, last_columns = threads == line_words, threads + 2
    line, two_lines, ring_size = 2 * last_columns, 4 * last_columns, 5 * DEPTH

    @device_function
    def scan_line(
        ring: Array, k: int, own: Array, edges: Array, thread: int, index: int, h: Array
    ) -> None:
        before, after = (k + 1) % 2 * line, k % 2 * line
        left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
        result = compute(ring, k, own, left, beyond)
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
        weight = np.uint64((weight_slice * height + row) * line_words + column)
        edges = cuda.shared.array(two_lines, np.float32)
        ring, own = cuda.local.array(ring_size, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        for k in range(DEPTH):
            if start + k < stop:
                later, weight_later = move(index, k * stride), move(weight, k * stride)
                fetch(ring, k, later, weight_later, x, lam, wl, wm, wr)
        cuda.syncthreads()

        step = start
        while step + 2 * DEPTH <= stop:
            for k in range(DEPTH):
                scan_line(ring, k, own, edges, thread, move(index, k * stride), h)
                cuda.syncthreads()
                ahead = (k + DEPTH) * stride
                fetch(ring, k, move(index, ahead), move(weight, ahead), x, lam, wl, wm, wr)
            index, weight = move(index, DEPTH * stride), move(weight, DEPTH * stride)
            step += DEPTH
        for first in range(step, stop, DEPTH):
            for k in range(DEPTH):
                if first + k < stop:
                    scan_line(ring, k, own, edges, thread, index, h)
                    cuda.syncthreads()
                    if first + k + DEPTH < stop:
                        later = move(index, DEPTH * stride)
                        weight_later = move(weight, DEPTH * stride)
                        fetch(ring, k, later, weight_later, x, lam, wl, wm, wr)
                    index, weight = move(index, stride), move(weight, stride)

    return forward


IDEA = "no branches in the main loop: it waits for loads once per pass of the ring"
RUNG = word_rung("r06c", "branchless", IDEA, build)
