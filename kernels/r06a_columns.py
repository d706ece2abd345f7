"""r06a columns: one load reads several columns, and their thread keeps h in registers.

Idea: a load of 8 bytes reads a word of two float32 columns, or of four columns of a 16-bit type.
The thread that loads a word computes its columns and keeps their h in registers. Only a thread's
first and last column pass through shared memory, to the threads beside it.

Also: weights per channel, as in r05, or shared, as in r06. A block has one slice.

Changes since r06: several columns per load and per thread; half as many warps at the barrier.

Expect: load requests halve, to 10.5 million on figure 3, and smsp__inst_executed.sum falls from
r05's 217 to about 118 million. Sectors and DRAM bytes stay. Each line still waits for its own loads
(long_scoreboard stalls), so the time hardly changes: 1.0 to 1.1 ms (0.9 to 1.0, shared weights).

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


def computing(block: WordBlock) -> Any:
    """The device function that takes ``own`` from h of the previous line to h of this one."""
    pack, (unpack, join) = block.pack, words(block.dtype, block.pack)

    @device_function
    def compute(ring: Array, slot: int, own: Array, left: float, beyond: float) -> Any:
        for i in range(pack):
            x, lam = unpack(ring[slot], i), unpack(ring[slot + 1], i)
            wl, wm = unpack(ring[slot + 2], i), unpack(ring[slot + 3], i)
            wr, right = unpack(ring[slot + 4], i), own[i + 1] if i + 1 < pack else beyond
            middle = own[i]
            own[i] = recurrence(wl, left, wm, middle, wr, right, lam, x)
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
        edges = cuda.shared.array(two_lines, np.float32)
        operands, own = cuda.local.array(5, word), cuda.local.array(pack, np.float32)
        for j in range(thread, two_lines, threads):
            edges[j] = np.float32(0)
        for i in range(pack):
            own[i] = np.float32(0)
        cuda.syncthreads()

        before, after = 0, line
        for step in range(start, min(start + chunk, height)):
            row = height - 1 - step if upward else step
            if thread < line_words:
                index = np.uint64((own_slice * height + row) * line_words + thread)
                w = np.uint64((weight_slice * height + row) * line_words + thread)
                operands[0], operands[1] = x[index], lam[index]
                operands[2], operands[3], operands[4] = wl[w], wm[w], wr[w]
                left, beyond = edges[before + last_columns + thread], edges[before + thread + 2]
                h[index] = compute(operands, 0, own, left, beyond)
                edges[after + thread + 1] = own[0]
                edges[after + last_columns + thread + 1] = own[pack - 1]
            before, after = after, before
            cuda.syncthreads()

    return forward


RUNG = word_rung(
    id="r06a",
    title="columns",
    idea="several columns per load and thread; only their edges pass through shared memory",
    source="ours",
    build=build,
)
