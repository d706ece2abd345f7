"""Backward of r07: the walk of forward, from the last line of a chunk to the first.

A line gives gradient back to the previous one. Across the edges of a run it passes as two products,
wl g to the left and wr g to the right. The edges of h, which the gradients of the weights need,
pass through shared memory beside them.

With shared weights, a second launch sums g h over the channels, or a cluster of blocks does in this
one: see exchange.py.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32

from gspn2bench.kernels import storage
from gspn2bench.kernels.arithmetic import gather, move
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r07_gspn2.backward_loads import build_loads
from gspn2bench.kernels.r07_gspn2.configuration import BACKWARD_OPERANDS, Config
from gspn2bench.kernels.r07_gspn2.exchange import build_exchange


@cache
def build_backward(config: Config) -> Any:
    """Compile the backward kernel for one configuration."""
    threads, words, pack, depth = config.threads, config.words, config.pack, config.depth
    upward, shared, word = config.upward, config.shared, config.word_type
    line_words, full = config.line_words, config.full
    unpack, join = storage.words(config.dtype, pack)
    fetch, fetch_h, take_h = build_loads(config)
    run = words * pack
    halo = threads + 2
    to_right, h_first = halo, 2 * halo  # after the products to the left
    h_last = 3 * halo if run > 1 else h_first
    line = h_last + halo
    edges_size = 2 * line
    ring_size = BACKWARD_OPERANDS * depth * words
    back_size, values_size = 3 * run, 5 * pack
    columns, cluster = line_words * pack, config.cluster
    needs_h = not shared or cluster > 0
    if cluster:
        open_section, send, exchange, finish = build_exchange(config)

    @device_function
    def scan_line(
        ring: Array, k: int, back: Array, h_before: Array, values: Array, edges: Array,
        thread: int, first: int,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
    ) -> None:  # fmt: skip
        """Compute the gradients of the line in slot k of the ring.

        ``back`` has three products per column p, from the next line in scan order: wr g of p - 1,
        wm g of p and wl g of p + 1. It is replaced by those of this line.
        """
        before, after = ((k + 1) % 2) * line, (k % 2) * line
        back[0] = edges[before + to_right + thread]
        back[3 * run - 1] = edges[before + thread + 2]
        if not shared:
            h_left = edges[before + h_last + thread]
            h_beyond = edges[before + h_first + thread + 2]
        carried = np.float32(0)
        for q in range(words):
            slot = 7 * (k * words + q)
            inside = full or thread * words + q < line_words
            for i in range(pack):
                j = q * pack + i
                gradient = gather(
                    unpack(ring[slot], i), back[3 * j + 1], back[3 * j + 2], back[3 * j]
                )
                gradient = gradient if inside else np.float32(0)
                to_left = unpack(ring[slot + 3], i) * gradient
                if j > 0:
                    back[3 * (j - 1) + 2] = to_left
                    back[3 * j] = carried
                else:
                    edges[after + thread + 1] = to_left
                back[3 * j + 1] = unpack(ring[slot + 4], i) * gradient
                carried = unpack(ring[slot + 5], i) * gradient
                values[i] = unpack(ring[slot + 2], i) * gradient
                values[pack + i] = unpack(ring[slot + 1], i) * gradient
                if cluster:
                    g[j] = gradient
                elif shared:
                    if inside:
                        g[move(first, q) * np.uint64(pack) + np.uint64(i)] = gradient
                else:
                    h_right = h_before[j + 1] if j + 1 < run else h_beyond
                    values[2 * pack + i] = gradient * h_left
                    values[3 * pack + i] = gradient * h_before[j]
                    values[4 * pack + i] = gradient * h_right
                    h_left = h_before[j]
            if inside:
                index = move(first, q)
                grad_x[index] = join(values, 0)
                grad_lam[index] = join(values, pack)
                if not shared:
                    grad_wl[index] = join(values, 2 * pack)
                    grad_wm[index] = join(values, 3 * pack)
                    grad_wr[index] = join(values, 4 * pack)
        edges[after + to_right + thread + 1] = carried

    @device_function
    def share_h(h_before: Array, k: int, edges: Array, thread: int) -> None:
        """Write the edges of h to shared memory, for the line that follows slot k's."""
        after = (k % 2) * line
        edges[after + h_first + thread + 1] = h_before[0]
        if run > 1:
            edges[after + h_last + thread + 1] = h_before[run - 1]

    @kernel("r07_gspn2_backward", max_registers=config.max_registers)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = np.uint32(cuda.threadIdx.x)
        block = np.uint32(cuda.blockIdx.x)
        if cluster:  # its blocks are the channels of an image
            rank = np.uint32(block % np.uint32(cluster))
            block = np.uint32(block // np.uint32(cluster))
        slice_ = np.uint32(block // np.uint32(chunks))
        begin = np.int64(np.uint32(block % np.uint32(chunks))) * chunk
        if cluster:
            slice_ = np.uint32(slice_ * np.uint32(cluster) + rank)
        count = min(np.int64(chunk), height - begin)
        rows = np.uint32(count)
        row = height - begin - count if upward else begin + count - 1
        stride = line_words if upward else -line_words  # from line to line, against the scan order
        plane = np.int64(height) * line_words
        first_word = np.int64(min(int(thread) * words, line_words - 1))
        last_offset = line_words - 1 - first_word  # from the first word to the line's last
        corner = row * line_words + first_word
        first = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_first = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        values = cuda.local.array(values_size, np.float32)
        back = cuda.local.array(back_size, np.float32)
        h_before = cuda.local.array(run, np.float32)
        if cluster:
            g = cuda.local.array(run, np.float32)
            section = cuda.shared.array(0, float32)
            place = open_section(section, thread, rank)
            origin = np.uint64((np.int64(weight_slice) * height + row) * columns)
            number = np.uint32(0)  # of passes of the ring

        for j in range(thread, edges_size, threads):
            edges[j] = np.float32(0)
        for j in range(3 * run):
            back[j] = np.float32(0)
        for k in range(depth):
            for q in range(words):
                ring[7 * (k * words + q) + 6] = word(0)
            if np.uint32(k) < rows:
                index, weight_index = move(first, k * stride), move(weight_first, k * stride)
                fetch(ring, k, index, weight_index, last_offset, grad_h, x, lam, wl, wm, wr)
                if needs_h and np.uint32(k + 1) < rows:
                    fetch_h(ring, k, move(index, stride), last_offset, h)
        cuda.syncthreads()
        if not shared:
            take_h(ring, 0, h_before, thread)
            share_h(h_before, 1, edges, thread)
            cuda.syncthreads()

        # As in forward, no branches while every line has another to load, and h of one more.
        step = np.uint32(0)
        while np.uint32(step + np.uint32(2 * depth)) < rows:
            for k in range(depth):
                scan_line(
                    ring, k, back, h_before, values, edges, thread, move(first, k * stride),
                    grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g,
                )  # fmt: skip
                if cluster:
                    take_h(ring, k, h_before, thread)
                    send(section, place, number, k, g, h_before)
                elif not shared:
                    take_h(ring, (k + 1) % depth, h_before, thread)
                    share_h(h_before, k, edges, thread)
                cuda.syncthreads()
                ahead = (k + depth) * stride
                index, weight_index = move(first, ahead), move(weight_first, ahead)
                fetch(ring, k, index, weight_index, last_offset, grad_h, x, lam, wl, wm, wr)
                if needs_h:
                    fetch_h(ring, k, move(index, stride), last_offset, h)
            first, weight_first = move(first, depth * stride), move(weight_first, depth * stride)
            step = np.uint32(step + np.uint32(depth))
            if cluster:
                exchange(section, place, number, rows, origin, grad_wl, grad_wm, grad_wr)
                number = np.uint32(number + np.uint32(1))
        while step < rows:
            for k in range(depth):
                current = np.uint32(step + np.uint32(k))
                if current < rows:
                    scan_line(
                        ring, k, back, h_before, values, edges, thread, first,
                        grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g,
                    )  # fmt: skip
                    if cluster:
                        take_h(ring, k, h_before, thread)
                        send(section, place, number, k, g, h_before)
                    elif not shared:
                        take_h(ring, (k + 1) % depth, h_before, thread)
                        share_h(h_before, k, edges, thread)
                    cuda.syncthreads()
                    index = move(first, depth * stride)
                    weight_index = move(weight_first, depth * stride)
                    if np.uint32(current + np.uint32(depth)) < rows:
                        fetch(ring, k, index, weight_index, last_offset, grad_h, x, lam, wl, wm, wr)
                    if needs_h:
                        if np.uint32(current + np.uint32(depth + 1)) < rows:
                            fetch_h(ring, k, move(index, stride), last_offset, h)
                        else:
                            for q in range(words):
                                ring[7 * (k * words + q) + 6] = word(0)
                    first, weight_first = move(first, stride), move(weight_first, stride)
            step = np.uint32(step + np.uint32(depth))
            if cluster and step <= rows:
                exchange(section, place, number, rows, origin, grad_wl, grad_wm, grad_wr)
                number = np.uint32(number + np.uint32(1))
        if cluster:
            finish(section, place, number, rows, origin, grad_wl, grad_wm, grad_wr)

    return backward
