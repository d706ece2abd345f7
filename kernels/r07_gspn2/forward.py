"""Forward of r07: a ring of registers holds the operands, and h stays on the chip."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels import storage
from gspn2bench.kernels.arithmetic import move, normalized, recurrence
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r07_gspn2.configuration import FORWARD_OPERANDS, Config


@cache
def build_forward(config: Config) -> Any:
    """Compile the forward kernel for one configuration."""
    threads, words, pack, depth = config.threads, config.words, config.pack, config.depth
    upward, shared, word = config.upward, config.shared, config.word_type
    line_words, run = config.line_words, words * pack
    line = edges_of_a_line(config)
    edges_size = 2 * line
    ring_size = FORWARD_OPERANDS * depth * words
    fetch, scan_line = fetching(config), scanning(config)
    scan_all = scanning_slots(config, fetch, scan_line, check=False)
    scan_last = scanning_slots(config, fetch, scan_line, check=True)

    @kernel("r07_gspn2_forward", max_registers=config.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = np.uint32(cuda.threadIdx.x)
        slice_ = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(chunks))
        begin = np.int64(np.uint32(cuda.blockIdx.x) % np.uint32(chunks)) * chunk
        rows = np.uint32(min(np.int64(chunk), height - begin))
        row = height - 1 - begin if upward else begin
        stride = -line_words if upward else line_words  # from line to line in scan order
        plane = np.int64(height) * line_words
        first_word = np.int64(min(int(thread) * words, line_words - 1))
        last_offset = line_words - 1 - first_word  # from the first word to the line's last
        corner = row * line_words + first_word
        first = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_first = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        values = cuda.local.array(pack, np.float32)
        own = cuda.local.array(run, np.float32)

        # Zeros stand for h before the first line and for neighbours outside the line.
        for j in range(thread, edges_size, threads):
            edges[j] = np.float32(0)
        for j in range(run):
            own[j] = np.float32(0)
        for k in range(depth):
            if np.uint32(k) < rows:
                ahead = k * stride
                index, weight_index = move(first, ahead), move(weight_first, ahead)
                fetch(ring, k, index, weight_index, last_offset, x, lam, wl, wm, wr)
        cuda.syncthreads()

        # While every line has another to load, no branch separates loads from their uses, so the
        # warp waits for them once per pass of the ring, not at each line.
        step = np.uint32(0)
        while np.uint32(step + np.uint32(2 * depth)) <= rows:
            scan_all(
                0, ring, own, values, edges, thread, first, weight_first, last_offset, step, rows,
                x, lam, wl, wm, wr, h,
            )  # fmt: skip
            first, weight_first = move(first, depth * stride), move(weight_first, depth * stride)
            step = np.uint32(step + np.uint32(depth))
        while step < rows:
            scan_last(
                0, ring, own, values, edges, thread, first, weight_first, last_offset, step, rows,
                x, lam, wl, wm, wr, h,
            )  # fmt: skip
            first, weight_first = move(first, depth * stride), move(weight_first, depth * stride)
            step = np.uint32(step + np.uint32(depth))

    return forward


def scanning_slots(config: Config, fetch: Any, scan_line: Any, *, check: bool) -> Any:
    """The device function that scans the lines in all slots, and loads as many lines ahead.

    There is no loop. The compiler unrolls a loop only if its body is short enough, and every slot
    must be a constant for the ring to stay in registers. Slots are put together in powers of two,
    so there are few functions to compile. When they have been inlined, every slot is a constant.

    Args:
        config: of the kernel.
        fetch: see ``fetching``.
        scan_line: see ``scanning``.
        check: whether there may be fewer lines left than slots, or than two rings.
    """
    depth = config.depth
    stride = -config.line_words if config.upward else config.line_words

    @device_function
    def scan_slot(
        k: int, ring: Array, own: Array, values: Array, edges: Array, thread: int,
        first: int, weight_first: int, last_offset: int, step: int, rows: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
    ) -> None:  # fmt: skip
        if not check or np.uint32(step + np.uint32(k)) < rows:
            scan_line(ring, k, own, values, edges, thread, move(first, k * stride), h)
            cuda.syncthreads()
            if not check or np.uint32(step + np.uint32(k + depth)) < rows:
                ahead = (k + depth) * stride
                index, weight_index = move(first, ahead), move(weight_first, ahead)
                fetch(ring, k, index, weight_index, last_offset, x, lam, wl, wm, wr)

    scan, begin, block, size = None, 0, scan_slot, 1  # ``block`` scans ``size`` slots
    while size <= depth:
        if depth & size:
            scan, begin = _one_after_another(scan, block, begin), begin + size
        block = _one_after_another(block, block, size)
        size *= 2
    return scan


def _one_after_another(before: Any, after: Any, distance: int) -> Any:
    """The device function that scans the slots of one, then those of the other, further on."""

    @device_function
    def scan_both(
        k: int, ring: Array, own: Array, values: Array, edges: Array, thread: int,
        first: int, weight_first: int, last_offset: int, step: int, rows: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
    ) -> None:  # fmt: skip
        before(
            k, ring, own, values, edges, thread, first, weight_first, last_offset, step, rows,
            x, lam, wl, wm, wr, h,
        )  # fmt: skip
        after(
            k + distance, ring, own, values, edges, thread, first, weight_first, last_offset,
            step, rows, x, lam, wl, wm, wr, h,
        )  # fmt: skip

    return after if before is None else scan_both


def edges_of_a_line(config: Config) -> int:
    """Values per line in shared memory: every thread's first column, then every thread's last."""
    row = config.threads + 2  # a zero at both ends
    return row if config.words * config.pack == 1 else 2 * row


def fetching(config: Config) -> Any:
    """The device function that starts the loads of a line."""
    words, full, shared = config.words, config.full, config.shared

    @device_function
    def fetch(
        ring: Array, k: int, first: int, weight_first: int, last_offset: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        """Load a line into slot k of the ring; words outside the line load the last one inside."""
        for q in range(words):
            slot = 5 * (k * words + q)
            offset = q if full else min(q, last_offset)
            index = move(first, offset)
            weight_index = move(weight_first, offset) if shared else index
            ring[slot] = x[index]
            ring[slot + 1] = lam[index]
            ring[slot + 2] = wl[weight_index]
            ring[slot + 3] = wm[weight_index]
            ring[slot + 4] = wr[weight_index]

    return fetch


def scanning(config: Config) -> Any:
    """The device function that computes a line from the previous one."""
    threads, words, pack, logits = config.threads, config.words, config.pack, config.logits
    line_words, full = config.line_words, config.full
    unpack, join = storage.words(config.dtype, pack)
    run = words * pack
    columns = line_words * pack
    line = edges_of_a_line(config)
    last_edges = line - (threads + 2)

    @device_function
    def scan_line(
        ring: Array, k: int, own: Array, values: Array, edges: Array, thread: int,
        first: int, h: Array,
    ) -> None:  # fmt: skip
        """Compute the line whose operands are in slot k of the ring."""
        before, after = ((k + 1) % 2) * line, (k % 2) * line
        left = edges[before + last_edges + thread]
        beyond = edges[before + thread + 2]
        for q in range(words):
            slot = 5 * (k * words + q)
            inside = full or thread * words + q < line_words
            for i in range(pack):
                j = q * pack + i
                middle = own[j]
                right = own[j + 1] if j + 1 < run else beyond
                w_left = unpack(ring[slot + 2], i)
                w_middle = unpack(ring[slot + 3], i)
                w_right = unpack(ring[slot + 4], i)
                if logits:
                    has_left = j > 0 or thread > 0
                    has_right = (full and j + 1 < run) or thread * run + j + 1 < columns
                    w_left, w_middle, w_right = normalized(
                        w_left, w_middle, w_right, has_left, has_right
                    )
                value = recurrence(
                    w_left, left, w_middle, middle, w_right, right,
                    unpack(ring[slot + 1], i), unpack(ring[slot], i),
                )  # fmt: skip
                own[j] = value if inside else np.float32(0)
                values[i] = value
                left = middle
            if inside:
                h[move(first, q)] = join(values, 0)
        edges[after + thread + 1] = own[0]
        if run > 1:
            edges[after + last_edges + thread + 1] = own[run - 1]

    return scan_line
