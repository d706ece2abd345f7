"""r07 gspn2: one launch, tuned to the memory roofline.

Idea: a block owns a chunk of a slice and walks its lines; a thread owns a few adjacent columns,
those of one load of 8 bytes. The scan is a chain of dependent steps, and a load that starts when
its step begins would pay the memory latency at each of them. So each thread keeps the operands of
the next ``depth`` lines in a ring of registers, and asks for line i + depth as soon as line i has
been used. h stays on the chip: a thread's own columns in registers, the edges of its run in two
lines of shared memory that take turns, so that one barrier a line is enough.

What keeps the ring from waiting: a warp has six counters for loads in flight, and a wait on one
is a wait for all that it counts. The compiler has one to spare for the ring. Where a branch parts
a line's loads from their use it waits at each line, and the ring gains nothing; in a loop without
branches it waits once a turn of the ring. Hence the main loop, which runs while every line has one
to ask for, and the slower one for the last lines. A line's length is a constant of the kernel, so
that the addresses of a turn are one register an operand, and constants.

Changes since r06: lines are loaded ``depth`` ahead; only a run's edges pass through shared memory;
several columns come with one load, and few warps meet at the barrier.

Expect: launches 1; dram throughput at the copy ceiling where there are as many slices as
multiprocessors; instructions fall to half of r05's; long_scoreboard stalls are those of the memory
itself.

Weights shared by the channels: forward reads each image's weights once for each channel, from the
L2 but for the first. Backward can't sum over channels in one pass, since a block owns one channel:
a first launch walks the scan and leaves g, the whole gradient of h, in float32; a second one, with
no order among its elements, sums g h over the channels in their order. No atomics anywhere.

Logits in the place of weights: forward normalizes them as it takes them from the ring, so that
normalized weights are in no memory. The logits of lines that have come are turned into weights
while lines are on their way, whatever h is; docs/notes.md has what it costs.

"right" and "left": tiled.py reads columns of up to 512 as they lie. Longer ones, for which
transposed copies were measured to be faster, 16-bit types and backward go through such copies.

Source: arXiv 2512.07884, section 3.3. The ring of registers is ours.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels import storage, tiled
from gspn2bench.kernels.arithmetic import gather, normalized, recurrence
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import WARP, Array, bind_launch, device_function, kernel
from gspn2bench.kernels.launch_limits import MAX_THREADS, grid_limit_reason, registers_per_thread
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.storage import storage_of
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ITEM_BYTES, ScanProblem, ceil_div

MAX_WORDS = 4
"""Words a thread: with more, the ring of a block of 1024 threads leaves its 64 registers."""
MAX_DEPTH = 16
"""Lines ahead: with more, the compiler no longer unrolls the loop that keeps them in registers."""
MAX_DEPTH_OF_LOGITS = {"float32": 10, "float16": 8, "bfloat16": 10}
"""The same where weights are normalized, which makes the loop longer, of two columns a thread."""
RING_REGISTERS = {
    ("forward", "float32"): 80,
    ("forward", "float16"): 80,  # more instructions to a line: a longer loop is not unrolled
    ("forward", "bfloat16"): 100,
    ("backward", "float32"): 56,
    ("backward", "float16"): 56,
    ("backward", "bfloat16"): 56,
}
"""Registers that the lines ahead may take, in a block of at most 512 threads."""
FORWARD_OPERANDS = 5  # x, lam, wl, wm, wr
BACKWARD_OPERANDS = 7  # grad_h, x, lam, wl, wm, wr, and h of the line before


@dataclass(frozen=True)
class Config:
    """What the kernels are compiled for.

    Args:
        dtype: storage type.
        line_words: words of a line, so that a line's distance from the next is a constant.
        threads: threads of a block, a multiple of a warp.
        words: words a thread owns, side by side.
        pack: columns in a word, which one load brings.
        depth: lines held ahead in registers; even, so that a line's shared buffer is known when
            the loop over the ring is unrolled.
        upward: whether the scan starts from the last row.
        shared: whether the channels share one set of weights.
        logits: whether forward normalizes what it is given as weights.
    """

    dtype: str
    line_words: int
    threads: int
    words: int
    pack: int
    depth: int
    upward: bool
    shared: bool
    logits: bool

    @property
    def word_bytes(self) -> int:
        """Bytes of one load."""
        return self.pack * ITEM_BYTES[self.dtype]

    @property
    def word_type(self) -> Any:
        """NumPy type of a word."""
        unsigned = {4: np.uint32, 8: np.uint64}
        return storage_of(self.dtype).raw if self.pack == 1 else unsigned[self.word_bytes]

    @property
    def full(self) -> bool:
        """Whether no word of any thread is outside the line."""
        return self.line_words == self.threads * self.words

    @property
    def max_registers(self) -> int:
        """Registers a thread, so that one block fits a multiprocessor."""
        return registers_per_thread(self.threads)


@cache
def choose(problem: ScanProblem) -> Config:
    """The configuration for a line's length, its number of lines and a storage type.

    A thread loads 8 bytes at a time where a line is long and 4 otherwise (of the 16-bit types 4 in
    backward, which holds more in registers, and with logits, whose arithmetic makes the loop over
    the ring longer), so that few warps meet at the barrier and each has independent work; longer
    lines still are loaded in wider words before a thread gets several.
    The ring holds as many lines as its share of the registers allows, but turns over at least eight
    times, so that loads and arithmetic overlap.
    """
    item, forward = ITEM_BYTES[problem.dtype], problem.phase == "forward"
    light = forward and not problem.logits
    pack = (8 if problem.line > 256 and (light or item == 4) else 4) // item
    while problem.line > pack * MAX_THREADS and 2 * pack * item <= 8:
        pack *= 2
    while problem.line % pack:
        pack //= 2
    line_words = problem.line // pack
    words = ceil_div(line_words, MAX_THREADS)
    threads = ceil_div(line_words, words * WARP) * WARP
    operands = FORWARD_OPERANDS if forward else BACKWARD_OPERANDS
    registers = operands * words * max(1, pack * item // 4)  # of one line
    ring = RING_REGISTERS[problem.phase, problem.dtype]
    if threads > MAX_THREADS // 2:  # where a thread has half of the registers
        ring = 4 * FORWARD_OPERANDS if forward else 2 * BACKWARD_OPERANDS
    max_depth = MAX_DEPTH_OF_LOGITS[problem.dtype] if problem.logits else MAX_DEPTH
    depth = min(ring // registers, problem.chunk_length // 8, max_depth)
    return Config(
        problem.dtype,
        line_words,
        threads,
        words,
        pack,
        max(2, depth - depth % 2),
        upward=problem.direction in ("up", "left"),
        shared=problem.weights == "shared",
        logits=problem.logits,
    )


@device_function
def move(index: int, distance: int) -> Any:
    """A flat index, moved on or back; unsigned, so that Numba does not look for negative ones."""
    return np.uint64(np.int64(index) + distance)


@cache
def build_forward(config: Config) -> Any:
    """Compile the forward kernel for one configuration."""
    threads, words, pack, depth = config.threads, config.words, config.pack, config.depth
    upward, shared, word = config.upward, config.shared, config.word_type
    line_words, full, logits = config.line_words, config.full, config.logits
    unpack, join = storage.words(config.dtype, pack)
    run = words * pack
    columns = line_words * pack
    halo = threads + 2  # a zero on either side of the threads
    last_edges = halo if run > 1 else 0  # a run's last columns lie behind the first ones
    line = halo + last_edges
    edges_size = 2 * line
    ring_size = FORWARD_OPERANDS * depth * words

    @device_function
    def fetch(
        ring: Array, k: int, first: int, weight_first: int, last_offset: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        """Ask for a line's operands; a word outside the line stands for the last one inside."""
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

    @device_function
    def scan_line(
        ring: Array, k: int, own: Array, values: Array, edges: Array, thread: int,
        first: int, h: Array,
    ) -> None:  # fmt: skip
        """From h of the line before to h of this one, whose operands are slot k of the ring."""
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
        stride = -line_words if upward else line_words  # from line to line, in scan order
        plane = np.int64(height) * line_words
        first_word = np.int64(min(int(thread) * words, line_words - 1))
        last_offset = line_words - 1 - first_word  # words of the line behind the first
        corner = row * line_words + first_word
        first = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_first = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        values = cuda.local.array(pack, np.float32)
        own = cuda.local.array(run, np.float32)

        # Zeros stand for h before the first line and for the neighbours outside the line.
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

        # While every line has one to ask for, no branch parts the loads from their uses, so that
        # the warp waits for them once a turn of the ring, and not at each line.
        step = np.uint32(0)
        while np.uint32(step + np.uint32(2 * depth)) <= rows:
            for k in range(depth):  # unrolled, so that the ring stays in registers
                scan_line(ring, k, own, values, edges, thread, move(first, k * stride), h)
                cuda.syncthreads()
                ahead = (k + depth) * stride
                index, weight_index = move(first, ahead), move(weight_first, ahead)
                fetch(ring, k, index, weight_index, last_offset, x, lam, wl, wm, wr)
            first, weight_first = move(first, depth * stride), move(weight_first, depth * stride)
            step = np.uint32(step + np.uint32(depth))
        while step < rows:
            for k in range(depth):
                current = np.uint32(step + np.uint32(k))
                if current < rows:
                    scan_line(ring, k, own, values, edges, thread, first, h)
                    cuda.syncthreads()
                    if np.uint32(current + np.uint32(depth)) < rows:
                        index = move(first, depth * stride)
                        weight_index = move(weight_first, depth * stride)
                        fetch(ring, k, index, weight_index, last_offset, x, lam, wl, wm, wr)
                    first, weight_first = move(first, stride), move(weight_first, stride)
            step = np.uint32(step + np.uint32(depth))

    return forward


@cache
def build_backward(config: Config) -> Any:
    """Compile the backward kernel for one configuration.

    The walk is forward's, from the last line of a chunk to the first. What a line gives back to
    the one before it crosses a run's edges as two products, wl g to the left and wr g to the
    right; the edges of h, which the gradients of the weights need, travel beside them.
    """
    threads, words, pack, depth = config.threads, config.words, config.pack, config.depth
    upward, shared, word = config.upward, config.shared, config.word_type
    line_words, full = config.line_words, config.full
    unpack, join = storage.words(config.dtype, pack)
    run = words * pack
    halo = threads + 2
    to_right, h_first = halo, 2 * halo  # behind the products that go to the left
    h_last = 3 * halo if run > 1 else h_first
    line = h_last + halo
    edges_size = 2 * line
    ring_size = BACKWARD_OPERANDS * depth * words
    back_size, values_size = 3 * run, 5 * pack

    @device_function
    def fetch(
        ring: Array, k: int, first: int, weight_first: int, last_offset: int,
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        """Ask for a line's operands; a word outside the line stands for the last one inside."""
        for q in range(words):
            slot = 7 * (k * words + q)
            offset = q if full else min(q, last_offset)
            index = move(first, offset)
            weight_index = move(weight_first, offset) if shared else index
            ring[slot] = grad_h[index]
            ring[slot + 1] = x[index]
            ring[slot + 2] = lam[index]
            ring[slot + 3] = wl[weight_index]
            ring[slot + 4] = wm[weight_index]
            ring[slot + 5] = wr[weight_index]

    @device_function
    def fetch_h(ring: Array, k: int, first: int, last_offset: int, h: Array) -> None:
        """Ask for h of the line before slot k's; where there is none, h is 0."""
        for q in range(words):
            ring[7 * (k * words + q) + 6] = h[move(first, q if full else min(q, last_offset))]

    @device_function
    def take_h(ring: Array, k: int, h_before: Array, thread: int) -> None:
        """H of the line before slot k's, out of the ring; 0 outside the line."""
        for q in range(words):
            inside = full or thread * words + q < line_words
            for i in range(pack):
                value = unpack(ring[7 * (k * words + q) + 6], i)
                h_before[q * pack + i] = value if inside else np.float32(0)

    @device_function
    def scan_line(
        ring: Array, k: int, back: Array, h_before: Array, values: Array, edges: Array,
        thread: int, first: int,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
    ) -> None:  # fmt: skip
        """From what the line after gave back to the gradients of this one, slot k of the ring.

        ``back`` holds three products a column: wr g of p - 1, wm g of p and wl g of p + 1.
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
                if shared:
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
        """Write the edges of h that the line after slot k's asks for."""
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
        slice_ = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(chunks))
        begin = np.int64(np.uint32(cuda.blockIdx.x) % np.uint32(chunks)) * chunk
        count = min(np.int64(chunk), height - begin)
        rows = np.uint32(count)
        row = height - begin - count if upward else begin + count - 1
        stride = line_words if upward else -line_words  # from line to line, against the scan
        plane = np.int64(height) * line_words
        first_word = np.int64(min(int(thread) * words, line_words - 1))
        last_offset = line_words - 1 - first_word  # words of the line behind the first
        corner = row * line_words + first_word
        first = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_first = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        values = cuda.local.array(values_size, np.float32)
        back = cuda.local.array(back_size, np.float32)
        h_before = cuda.local.array(run, np.float32)

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
                if not shared and np.uint32(k + 1) < rows:
                    fetch_h(ring, k, move(index, stride), last_offset, h)
        cuda.syncthreads()
        if not shared:
            take_h(ring, 0, h_before, thread)
            share_h(h_before, 1, edges, thread)
            cuda.syncthreads()

        # As in forward: no branch while every line, and the one before it, is there to ask for.
        step = np.uint32(0)
        while np.uint32(step + np.uint32(2 * depth)) < rows:
            for k in range(depth):
                scan_line(
                    ring, k, back, h_before, values, edges, thread, move(first, k * stride),
                    grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g,
                )  # fmt: skip
                if not shared:
                    take_h(ring, (k + 1) % depth, h_before, thread)
                    share_h(h_before, k, edges, thread)
                cuda.syncthreads()
                ahead = (k + depth) * stride
                index, weight_index = move(first, ahead), move(weight_first, ahead)
                fetch(ring, k, index, weight_index, last_offset, grad_h, x, lam, wl, wm, wr)
                if not shared:
                    fetch_h(ring, k, move(index, stride), last_offset, h)
            first, weight_first = move(first, depth * stride), move(weight_first, depth * stride)
            step = np.uint32(step + np.uint32(depth))
        while step < rows:
            for k in range(depth):
                current = np.uint32(step + np.uint32(k))
                if current < rows:
                    scan_line(
                        ring, k, back, h_before, values, edges, thread, first,
                        grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g,
                    )  # fmt: skip
                    if not shared:
                        take_h(ring, (k + 1) % depth, h_before, thread)
                        share_h(h_before, k, edges, thread)
                    cuda.syncthreads()
                    index = move(first, depth * stride)
                    weight_index = move(weight_first, depth * stride)
                    if np.uint32(current + np.uint32(depth)) < rows:
                        fetch(ring, k, index, weight_index, last_offset, grad_h, x, lam, wl, wm, wr)
                    if not shared:
                        if np.uint32(current + np.uint32(depth + 1)) < rows:
                            fetch_h(ring, k, move(index, stride), last_offset, h)
                        else:
                            for q in range(words):
                                ring[7 * (k * words + q) + 6] = word(0)
                    first, weight_first = move(first, stride), move(weight_first, stride)
            step = np.uint32(step + np.uint32(depth))

    return backward


SUM_THREADS = 256


@cache
def build_weight_sum(dtype: str, upward: bool) -> Any:
    """Compile the second launch of backward with shared weights: g h summed over the channels."""
    kind = storage_of(dtype)
    widen, narrow = kind.widen, kind.narrow

    @kernel("r07_gspn2_weight_sum")
    def weight_sum(
        g: Array, h: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array,
        height: int, width: int, channels: int, chunk: int, elements: int,
    ) -> None:  # fmt: skip
        element = np.int64(cuda.blockIdx.x) * SUM_THREADS + cuda.threadIdx.x
        if element >= elements:
            return
        column = element % width
        row = element // width % height
        image = element // width // height
        in_order = height - 1 - row if upward else row
        left = middle = right = np.float32(0)
        if in_order % chunk > 0:
            back = width if upward else -width
            for channel in range(channels):
                index = (image * channels + channel) * height * width + row * width + column
                gradient = g[np.uint64(index)]
                before = index + back
                if column > 0:
                    left += gradient * widen(h[np.uint64(before - 1)])
                middle += gradient * widen(h[np.uint64(before)])
                if column + 1 < width:
                    right += gradient * widen(h[np.uint64(before + 1)])
        grad_wl[np.uint64(element)] = narrow(left)
        grad_wm[np.uint64(element)] = narrow(middle)
        grad_wr[np.uint64(element)] = narrow(right)

    return weight_sum


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    compiled = build_forward(config)
    arrays = forward_arrays(operands, config.word_bytes)
    grid = problem.slices * problem.chunks
    return bind_launch(compiled, grid, config.threads, *arrays, *_sizes(problem))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    g = scratch(operands, problem.slices * problem.plane if config.shared else 1)
    arrays = [*backward_arrays(operands, config.word_bytes), g]
    grid = problem.slices * problem.chunks
    compiled = build_backward(config)
    scan = bind_launch(compiled, grid, config.threads, *arrays, *_sizes(problem))
    if not config.shared:
        return scan

    h, _, _, *grad_w = backward_arrays(operands)[6:]
    elements = problem.batch * problem.plane
    sizes = (problem.height, problem.width, problem.channels, problem.chunk_length, elements)
    compiled_sum = build_weight_sum(problem.dtype, config.upward)
    sum_grid = ceil_div(elements, SUM_THREADS)
    weight_sum = bind_launch(compiled_sum, sum_grid, SUM_THREADS, g, h, *grad_w, *sizes)

    def call() -> None:
        scan()
        weight_sum()

    return call


def _sizes(problem: ScanProblem) -> tuple[int, ...]:
    return (problem.height, problem.channels, problem.chunk_length, problem.chunks)


def bind_any_forward(problem: ScanProblem, operands: Operands) -> Call:
    """Forward in every direction: columns of up to 512 as they lie, longer ones transposed."""
    if tiled.fits(problem):
        return tiled.bind_forward(problem, operands)
    return transposed(bind_forward)(problem, operands)


def launches(problem: ScanProblem) -> int:
    if tiled.fits(problem):
        return 1
    scans = 2 if problem.phase == "backward" and problem.weights == "shared" else 1
    return scans + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes; backward with shared weights also writes g, and reads g and h."""
    if tiled.fits(problem):
        return problem.compulsory_bytes
    moved = problem.compulsory_bytes + transposed_traffic(problem)
    if problem.phase == "backward" and problem.weights == "shared":
        moved += scratch_traffic(problem.slices * problem.plane)  # the second launch alone reads h
    return moved


def unsupported_reason(problem: ScanProblem) -> str | None:
    if tiled.fits(problem):
        return grid_limit_reason(problem)
    config = choose(problem)
    if config.words > MAX_WORDS:
        longest = MAX_WORDS * config.pack * MAX_THREADS
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {longest}, {config.pack} columns a load"
    return grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r07",
    title="gspn2",
    idea="GSPN-2: one launch, coalesced, h on the chip, operands loaded lines ahead",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=bind_any_forward,
    backward=transposed(bind_backward),
    launches=launches,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
    takes_logits=True,
)
