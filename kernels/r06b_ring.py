"""r06b ring: operands are loaded several lines ahead, into a ring of registers.

Idea: the scan is a chain of dependent steps. A load that starts with its step exposes the memory
latency at every step. So a thread keeps the operands of the next DEPTH lines in registers. Once it
has used those of line i, it loads line i + DEPTH into their slot. The ring is a local array. It
stays in registers because the loop over it is unrolled, which makes every index a constant.

Changes since r06a: loads start DEPTH lines ahead.

Expect: DRAM throughput rises from 59 to about 75 % of peak on figure 3, and the time falls to 0.85
to 0.9 ms (0.55 to 0.7 with shared weights). It is still a memory latency per line: the loads start
early, but long_scoreboard stalls remain at every line. r06c explains why.

Source: ours.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r06a_columns import computing
from gspn2bench.kernels.word_rung import WordBlock, word_rung

DEPTH: Final = 4
"""Lines in the ring; even, so the half of ``edges`` that a line uses is a constant too."""


@device_function
def fetch(
    ring: Array, k: int, index: int, w: int, x: Array, lam: Array, wl: Array, wm: Array, wr: Array
) -> None:
    """Start the loads of a line into slot k of the ring."""
    ring[5 * k], ring[5 * k + 1] = x[index], lam[index]
    ring[5 * k + 2], ring[5 * k + 3], ring[5 * k + 4] = wl[w], wm[w], wr[w]


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
        w = np.uint64((weight_slice * height + row) * line_words + thread)
        edges = cuda.shared.array(two_lines, np.float32)
        ring, own = cuda.local.array(ring_size, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        for k in range(DEPTH):
            if start + k < stop and thread < line_words:
                fetch(ring, k, move(index, k * stride), move(w, k * stride), x, lam, wl, wm, wr)
        cuda.syncthreads()

        ahead = DEPTH * stride
        for first in range(start, stop, DEPTH):
            for k in range(DEPTH):
                before, after = (k + 1) % 2 * line, k % 2 * line
                if first + k < stop and thread < line_words:
                    left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
                    h[index] = compute(ring, 5 * k, own, left, beyond)
                    edges[after + thread + 1] = own[0]
                    edges[after + last_columns + thread + 1] = own[pack - 1]
                    if first + k + DEPTH < stop:
                        fetch(ring, k, move(index, ahead), move(w, ahead), x, lam, wl, wm, wr)
                cuda.syncthreads()
                index, w = move(index, stride), move(w, stride)

    return forward


RUNG = word_rung(
    id="r06b",
    title="ring",
    idea="operands loaded several lines ahead, into a ring of registers",
    source="ours",
    build=build,
)
