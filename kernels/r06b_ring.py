"""r06b ring: operands are loaded several lines ahead, into a ring of registers.

Idea: the scan is a chain of dependent steps. A load that starts with its step exposes the memory
latency at every step. So a thread keeps the operands of the next DEPTH lines in registers. Once it
has used those of line i, it loads line i + DEPTH into their slot. The ring is a local array. It
stays in registers because the loop over it is unrolled, which makes every index a constant.

Changes since r06a: loads start DEPTH lines ahead.

Expect: loads of DEPTH lines are in flight, and dram throughput rises. It stays below a copy's,
because long_scoreboard stalls remain at every line. Prediction for figure 3: 15 to 25 % below r06a.

Source: ours.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.r06a_columns import computing, fetch
from gspn2bench.kernels.word_rung import WordBlock, word_rung

DEPTH: Final = 4
"""Lines in the ring; even, so the half of ``edges`` that a line uses is a constant too."""


@cache
def build(block: WordBlock) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads, pack, upward, shared = block.threads, block.pack, block.upward, block.shared
    line_words, word, compute = block.line_words, block.word_type, computing(block)
    last_columns = threads + 2
    line, two_lines, ring_size = 2 * last_columns, 4 * last_columns, 5 * DEPTH

    @kernel("r06b_ring_forward", max_registers=block.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread, own_slice = cuda.threadIdx.x, cuda.blockIdx.x // chunks
        weight_slice = own_slice // channels if shared else own_slice
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        row = height - 1 - start if upward else start
        stride = -line_words if upward else line_words  # from line to line in scan order
        index = np.uint64((own_slice * height + row) * line_words + thread)
        weight = np.uint64((weight_slice * height + row) * line_words + thread)
        edges = cuda.shared.array(two_lines, np.float32)
        ring, own = cuda.local.array(ring_size, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        for k in range(DEPTH):
            if start + k < stop and thread < line_words:
                later, weight_later = move(index, k * stride), move(weight, k * stride)
                fetch(ring, k, later, weight_later, x, lam, wl, wm, wr)
        cuda.syncthreads()

        for first in range(start, stop, DEPTH):
            for k in range(DEPTH):
                before, after = (k + 1) % 2 * line, k % 2 * line
                if first + k < stop and thread < line_words:
                    left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
                    h[index] = compute(ring, k, own, left, beyond)
                    edges[after + thread + 1] = own[0]
                    edges[after + last_columns + thread + 1] = own[pack - 1]
                    if first + k + DEPTH < stop:
                        later = move(index, DEPTH * stride)
                        weight_later = move(weight, DEPTH * stride)
                        fetch(ring, k, later, weight_later, x, lam, wl, wm, wr)
                cuda.syncthreads()
                index, weight = move(index, stride), move(weight, stride)

    return forward


IDEA = "operands loaded several lines ahead, into a ring of registers"
RUNG = word_rung("r06b", "ring", IDEA, build)
