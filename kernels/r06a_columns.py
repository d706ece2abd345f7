"""r06a columns: one load reads several columns, and their thread keeps h in registers.

Idea: a load of 8 bytes reads a word of two float32 columns, or of four 16-bit ones. The thread that
loads a word computes its columns and keeps their h in registers. Only its first and last column
pass through shared memory. Also: weights per channel or shared; one slice per block.

Changes since r06: several columns per load and per thread; half as many warps at the barrier.

Expect: fewer instructions per element. Each line still waits for its own loads (long_scoreboard
stalls), so figure 3 takes between r05's time and 10 % less.

Source: ours.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import recurrence
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.storage import words
from gspn2bench.kernels.word_rung import WordBlock, word_rung


@device_function
def fetch(
    ring: Array, k: int, index: int, weight: int,
    x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
) -> None:  # fmt: skip
    """Load a word of each operand into slot k; here there is one slot."""
    ring[5 * k], ring[5 * k + 1] = x[index], lam[index]
    ring[5 * k + 2], ring[5 * k + 3], ring[5 * k + 4] = wl[weight], wm[weight], wr[weight]


def computing(block: WordBlock) -> Any:
    """The device function that takes ``own`` from h of the previous line to h of this one."""
    pack, (unpack, join) = block.pack, words(block.dtype, block.pack)

    @device_function
    def compute(ring: Array, k: int, own: Array, left: float, beyond: float) -> Any:
        for i in range(pack):
            middle, right = own[i], own[i + 1] if i + 1 < pack else beyond
            own[i] = recurrence(
                unpack(ring[5 * k + 2], i), left, unpack(ring[5 * k + 3], i), middle,
                unpack(ring[5 * k + 4], i), right,
                unpack(ring[5 * k + 1], i), unpack(ring[5 * k], i),
            )  # fmt: skip
            left = middle
        return join(own, 0)

    return compute


@cache
def build(block: WordBlock) -> Any:
    """Compile the kernel that scans one chunk of one slice per block."""
    threads, pack, upward, shared = block.threads, block.pack, block.upward, block.shared
    line_words, word, compute = block.line_words, block.word_type, computing(block)
    last_columns = threads + 2  # they follow the first ones; a zero at both ends of either
    line, two_lines = 2 * last_columns, 4 * last_columns

    @kernel("r06a_columns_forward", max_registers=block.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread, own_slice = cuda.threadIdx.x, cuda.blockIdx.x // chunks
        weight_slice = own_slice // channels if shared else own_slice
        start = (cuda.blockIdx.x % chunks) * chunk
        stop = min(start + chunk, height)
        edges = cuda.shared.array(two_lines, np.float32)
        operands, own = cuda.local.array(5, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        cuda.syncthreads()

        before, after = 0, line
        for step in range(start, stop):
            row = height - 1 - step if upward else step
            if thread < line_words:
                index = np.uint64((own_slice * height + row) * line_words + thread)
                weight = np.uint64((weight_slice * height + row) * line_words + thread)
                fetch(operands, 0, index, weight, x, lam, wl, wm, wr)
                left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
                h[index] = compute(operands, 0, own, left, beyond)
                edges[after + thread + 1] = own[0]
                edges[after + last_columns + thread + 1] = own[pack - 1]
            before, after = after, before
            cuda.syncthreads()

    return forward


IDEA = "several columns per load and thread; only their edges pass through shared memory"
RUNG = word_rung("r06a", "columns", IDEA, build)
