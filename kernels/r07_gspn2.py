"""r07 gspn2: one launch, tuned to the memory roofline.

Idea: a block owns a chunk of a slice and walks its lines; a thread owns a run of adjacent columns,
one column where the line has at most 1024. The scan is a chain of dependent steps, and a load that
starts when its step begins would pay the memory latency at each of them. So each thread keeps the
operands of the next ``depth`` lines in a ring of registers, and asks for line i + depth as soon as
line i has been used. h stays on the chip: a thread's own columns in registers, the edges of its
run in two lines of shared memory that take turns, so that one barrier a line is enough.

Changes since r06: lines are loaded ``depth`` ahead; only a run's edges pass through shared memory;
several columns of a 16-bit type come with one load.

Expect: launches 1; dram throughput at the copy ceiling where there are as many slices as
multiprocessors; warps wait at the barrier, no longer on loads (long_scoreboard stalls fall).

Weights shared by the channels: forward reads each image's weights once for each channel, from the
L2 but for the first. Backward can't sum over channels in one pass, since a block owns one channel:
a first launch walks the scan and leaves g, the whole gradient of h, in float32; a second one, with
no order among its elements, sums g h over the channels in their order. No atomics anywhere.

Source: arXiv 2512.07884, section 3.3. The ring of registers is ours.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import WARP, Array, device_function, kernel
from gspn2bench.kernels.launch import (
    MAX_REGISTERS,
    MAX_THREADS,
    backward_arrays,
    beyond_grid,
    bound,
    forward_arrays,
    scratch,
)
from gspn2bench.kernels.math import gather, recurrence
from gspn2bench.kernels.storage import storage_of
from gspn2bench.kernels.transposed import (
    beyond_tiles,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ITEM_BYTES, ScanProblem

MAX_WORDS = 4
"""Words a thread: with more, the ring of a block of 1024 threads leaves its 64 registers."""
FORWARD_OPERANDS = 5  # x, lam, wl, wm, wr
BACKWARD_OPERANDS = 7  # grad_h, x, lam, wl, wm, wr, and h of the line before


@dataclass(frozen=True)
class Config:
    """What the kernels are compiled for.

    Args:
        dtype: storage type.
        threads: threads of a block, a multiple of a warp.
        words: words a thread owns, side by side.
        pack: columns in a word, which one load brings.
        depth: lines held ahead in registers; even, so that a line's shared buffer is known when
            the loop over the ring is unrolled.
        upward: whether the scan starts from the last row.
        shared: whether the channels share one set of weights.
    """

    dtype: str
    threads: int
    words: int
    pack: int
    depth: int
    upward: bool
    shared: bool

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
    def max_registers(self) -> int:
        """Registers a thread, so that one block fits a multiprocessor."""
        return min(255, MAX_REGISTERS * MAX_THREADS // self.threads)


def choose(problem: ScanProblem) -> Config:
    """The configuration for a line's length and a storage type.

    A 16-bit type is loaded two columns at a time, so that a warp's load is 128 bytes, as for
    float32; long lines are loaded in wider words before a thread gets several. The ring takes 8
    lines where a thread may have 128 registers, 4 or 2 where a block of 1024 leaves it 64.
    """
    item = ITEM_BYTES[problem.dtype]
    pack = 4 // item
    while problem.line > pack * MAX_THREADS and 2 * pack * item <= 8:
        pack *= 2
    while problem.line % pack:
        pack //= 2
    line_words = problem.line // pack
    words = -(-line_words // MAX_THREADS)
    threads = -(-line_words // (words * WARP)) * WARP
    registers = words * max(1, pack * item // 4)  # of one operand of one line
    lines = 8 if threads <= MAX_THREADS // 2 and pack == 1 else 4
    depth = lines // registers
    return Config(
        problem.dtype,
        threads,
        words,
        pack,
        max(2, depth - depth % 2),
        upward=problem.direction in ("up", "left"),
        shared=problem.weights == "shared",
    )


@device_function
def move(at: int, distance: int) -> Any:
    """A flat index, moved on or back; unsigned, so that Numba does not look for negative ones."""
    return np.uint64(np.int64(at) + distance)


@cache
def build_forward(config: Config) -> Any:
    """Compile the forward kernel for one configuration."""
    threads, words, pack, depth = config.threads, config.words, config.pack, config.depth
    upward, shared, word = config.upward, config.shared, config.word_type
    kind = storage_of(config.dtype)
    raw, widen, narrow = kind.raw, kind.widen, kind.narrow
    run = words * pack
    halo = threads + 2  # a zero on either side of the threads
    last = halo if run > 1 else 0  # a run's last columns lie behind the first ones
    line = halo + last
    edges_size = 2 * line
    ring_size = FORWARD_OPERANDS * depth * words

    @device_function
    def fetch(
        ring: Array, slot: int, at: int, weight_at: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        """Ask for the operands of one word."""
        ring[slot] = x[at]
        ring[slot + 1] = lam[at]
        ring[slot + 2] = wl[weight_at]
        ring[slot + 3] = wm[weight_at]
        ring[slot + 4] = wr[weight_at]

    @kernel("r07_gspn2_forward", max_registers=config.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, line_words: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        pitch, thread = np.uint32(line_words), np.uint32(cuda.threadIdx.x)
        slice_ = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(chunks))
        begin = np.int64(np.uint32(cuda.blockIdx.x) % np.uint32(chunks)) * chunk
        rows = np.uint32(min(np.int64(chunk), height - begin))
        row = height - 1 - begin if upward else begin
        stride = -line_words if upward else line_words  # from line to line, in scan order
        plane = np.int64(height) * line_words
        corner = row * line_words + np.int64(thread) * words
        at = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_at = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        packed = ring.view(raw)
        result = cuda.local.array(1, word)
        columns = result.view(raw)
        own = cuda.local.array(run, np.float32)

        # Zeros stand for h before the first line and for the neighbours outside the line.
        for j in range(thread, edges_size, threads):
            edges[j] = np.float32(0)
        for j in range(run):
            own[j] = np.float32(0)
        for k in range(depth):
            for q in range(words):
                if np.uint32(k) < rows and thread * words + q < pitch:
                    here = move(at, k * stride + q)
                    weight_here = move(weight_at, k * stride + q) if shared else here
                    fetch(ring, 5 * (k * words + q), here, weight_here, x, lam, wl, wm, wr)
        cuda.syncthreads()

        step = np.uint32(0)
        while step < rows:
            for k in range(depth):  # unrolled, so that the ring stays in registers
                now = np.uint32(step + np.uint32(k))
                if now < rows:
                    before, after = ((k + 1) % 2) * line, (k % 2) * line
                    left = edges[before + last + thread]
                    beyond = edges[before + thread + 2]
                    for q in range(words):
                        if thread * words + q < pitch:
                            slot = 5 * (k * words + q)
                            for i in range(pack):
                                j = q * pack + i
                                middle = own[j]
                                right = own[j + 1] if j + 1 < run else beyond
                                own[j] = recurrence(
                                    widen(packed[(slot + 2) * pack + i]), left,
                                    widen(packed[(slot + 3) * pack + i]), middle,
                                    widen(packed[(slot + 4) * pack + i]), right,
                                    widen(packed[(slot + 1) * pack + i]),
                                    widen(packed[slot * pack + i]),
                                )  # fmt: skip
                                columns[i] = narrow(own[j])
                                left = middle
                            h[move(at, q)] = result[0]
                            if np.uint32(now + np.uint32(depth)) < rows:
                                ahead = depth * stride + q
                                here = move(at, ahead)
                                weight_here = move(weight_at, ahead) if shared else here
                                fetch(ring, slot, here, weight_here, x, lam, wl, wm, wr)
                    edges[after + thread + 1] = own[0]
                    if run > 1:
                        edges[after + last + thread + 1] = own[run - 1]
                    at, weight_at = move(at, stride), move(weight_at, stride)
                    cuda.syncthreads()
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
    kind = storage_of(config.dtype)
    raw, widen, narrow = kind.raw, kind.widen, kind.narrow
    run = words * pack
    halo = threads + 2
    to_right, h_first = halo, 2 * halo  # behind the products that go to the left
    h_last = 3 * halo if run > 1 else h_first
    line = h_last + halo
    edges_size = 2 * line
    ring_size = BACKWARD_OPERANDS * depth * words

    @device_function
    def fetch(
        ring: Array, slot: int, at: int, weight_at: int, before: int, is_first: bool,
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
    ) -> None:  # fmt: skip
        """Ask for the operands of one word; h of the line before is 0 on a chunk's first line."""
        ring[slot] = grad_h[at]
        ring[slot + 1] = x[at]
        ring[slot + 2] = lam[at]
        ring[slot + 3] = wl[weight_at]
        ring[slot + 4] = wm[weight_at]
        ring[slot + 5] = wr[weight_at]
        if not shared:
            ring[slot + 6] = word(0) if is_first else h[before]

    @kernel("r07_gspn2_backward", max_registers=config.max_registers)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, line_words: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        pitch, thread = np.uint32(line_words), np.uint32(cuda.threadIdx.x)
        slice_ = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(chunks))
        begin = np.int64(np.uint32(cuda.blockIdx.x) % np.uint32(chunks)) * chunk
        count = min(np.int64(chunk), height - begin)
        rows = np.uint32(count)
        row = height - begin - count if upward else begin + count - 1
        stride = line_words if upward else -line_words  # from line to line, against the scan
        plane = np.int64(height) * line_words
        corner = row * line_words + np.int64(thread) * words
        at = np.uint64(np.int64(slice_) * plane + corner)
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_at = np.uint64(np.int64(weight_slice) * plane + corner)

        edges = cuda.shared.array(edges_size, np.float32)
        ring = cuda.local.array(ring_size, word)
        packed = ring.view(raw)
        result = cuda.local.array(5, word)
        columns = result.view(raw)
        from_left = cuda.local.array(run, np.float32)  # wr g of p - 1 on the line after
        from_middle = cuda.local.array(run, np.float32)
        from_right = cuda.local.array(run, np.float32)
        h_before = cuda.local.array(run, np.float32)

        for j in range(thread, edges_size, threads):
            edges[j] = np.float32(0)
        for j in range(run):
            from_left[j] = np.float32(0)
            from_middle[j] = np.float32(0)
            from_right[j] = np.float32(0)
            h_before[j] = np.float32(0)
        cuda.syncthreads()
        for k in range(depth):
            for q in range(words):
                if np.uint32(k) < rows and thread * words + q < pitch:
                    here = move(at, k * stride + q)
                    weight_here = move(weight_at, k * stride + q) if shared else here
                    fetch(
                        ring, 7 * (k * words + q), here, weight_here, move(here, stride),
                        np.uint32(k + 1) == rows, grad_h, x, lam, wl, wm, wr, h,
                    )  # fmt: skip
        for q in range(words):
            if thread * words + q < pitch:
                for i in range(pack):
                    h_before[q * pack + i] = widen(packed[(7 * q + 6) * pack + i])
        edges[line + h_first + thread + 1] = h_before[0]
        if run > 1:
            edges[line + h_last + thread + 1] = h_before[run - 1]
        cuda.syncthreads()

        step = np.uint32(0)
        while step < rows:
            for k in range(depth):  # unrolled, so that the ring stays in registers
                now = np.uint32(step + np.uint32(k))
                if now < rows:
                    before, after = ((k + 1) % 2) * line, (k % 2) * line
                    from_left[0] = edges[before + to_right + thread]
                    from_right[run - 1] = edges[before + thread + 2]
                    h_left = edges[before + h_last + thread]
                    h_beyond = edges[before + h_first + thread + 2]
                    to_left = carried = np.float32(0)
                    for q in range(words):
                        if thread * words + q < pitch:
                            slot = 7 * (k * words + q)
                            for i in range(pack):
                                j = q * pack + i
                                gradient = gather(
                                    widen(packed[slot * pack + i]),
                                    from_middle[j], from_right[j], from_left[j],
                                )  # fmt: skip
                                left_product = widen(packed[(slot + 3) * pack + i]) * gradient
                                if j > 0:
                                    from_right[j - 1] = left_product
                                    from_left[j] = carried
                                else:
                                    to_left = left_product
                                from_middle[j] = widen(packed[(slot + 4) * pack + i]) * gradient
                                carried = widen(packed[(slot + 5) * pack + i]) * gradient
                                h_right = h_before[j + 1] if j + 1 < run else h_beyond
                                columns[i] = narrow(widen(packed[(slot + 2) * pack + i]) * gradient)
                                columns[pack + i] = narrow(
                                    widen(packed[(slot + 1) * pack + i]) * gradient
                                )
                                if shared:
                                    g[move(at, q) * np.uint64(pack) + np.uint64(i)] = gradient
                                else:
                                    columns[2 * pack + i] = narrow(gradient * h_left)
                                    columns[3 * pack + i] = narrow(gradient * h_before[j])
                                    columns[4 * pack + i] = narrow(gradient * h_right)
                                h_left = h_before[j]
                            here = move(at, q)
                            grad_x[here] = result[0]
                            grad_lam[here] = result[1]
                            if not shared:
                                grad_wl[here] = result[2]
                                grad_wm[here] = result[3]
                                grad_wr[here] = result[4]
                            if np.uint32(now + np.uint32(depth)) < rows:
                                ahead = move(at, depth * stride + q)
                                weight_ahead = (
                                    move(weight_at, depth * stride + q) if shared else ahead
                                )
                                fetch(
                                    ring, slot, ahead, weight_ahead, move(ahead, stride),
                                    np.uint32(now + np.uint32(depth + 1)) == rows,
                                    grad_h, x, lam, wl, wm, wr, h,
                                )  # fmt: skip
                    if np.uint32(now + np.uint32(1)) < rows:
                        for q in range(words):
                            if thread * words + q < pitch:
                                slot = 7 * (((k + 1) % depth) * words + q)
                                for i in range(pack):
                                    h_before[q * pack + i] = widen(packed[(slot + 6) * pack + i])
                    edges[after + thread + 1] = to_left
                    edges[after + to_right + thread + 1] = carried
                    edges[after + h_first + thread + 1] = h_before[0]
                    if run > 1:
                        edges[after + h_last + thread + 1] = h_before[run - 1]
                    at, weight_at = move(at, stride), move(weight_at, stride)
                    cuda.syncthreads()
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
                at = (image * channels + channel) * height * width + row * width + column
                gradient = g[np.uint64(at)]
                before = at + back
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
    return bound(compiled, grid, config.threads, *arrays, *_sizes(problem, config))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    g = scratch(operands, problem.slices * problem.plane if config.shared else 1)
    arrays = [*backward_arrays(operands, config.word_bytes), g]
    grid = problem.slices * problem.chunks
    compiled = build_backward(config)
    scan = bound(compiled, grid, config.threads, *arrays, *_sizes(problem, config))
    if not config.shared:
        return scan

    h, _, _, *grad_w = backward_arrays(operands)[6:]
    elements = problem.batch * problem.plane
    sizes = (problem.height, problem.width, problem.channels, problem.chunk_length, elements)
    compiled_sum = build_weight_sum(problem.dtype, config.upward)
    sum_grid = -(-elements // SUM_THREADS)
    weight_sum = bound(compiled_sum, sum_grid, SUM_THREADS, g, h, *grad_w, *sizes)

    def call() -> None:
        scan()
        weight_sum()

    return call


def _sizes(problem: ScanProblem, config: Config) -> tuple[int, ...]:
    line_words = problem.width // config.pack
    chunk = problem.chunk_length
    return (problem.height, line_words, problem.channels, chunk, problem.chunks)


def launches(problem: ScanProblem) -> int:
    scans = 2 if problem.phase == "backward" and problem.weights == "shared" else 1
    return scans + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes; backward with shared weights also writes g, and reads g and h."""
    moved = problem.compulsory_bytes + transposed_traffic(problem)
    if problem.phase == "backward" and problem.weights == "shared":
        moved += 2 * 4 * problem.slices * problem.plane  # h is read by the second launch alone
    return moved


def supports(problem: ScanProblem) -> str | None:
    config = choose(problem)
    if config.words > MAX_WORDS:
        longest = MAX_WORDS * config.pack * MAX_THREADS
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {longest}, {config.pack} columns a load"
    return beyond_grid(problem) or beyond_tiles(problem)


RUNG = Rung(
    id="r07",
    title="gspn2",
    idea="GSPN-2: one launch, coalesced, h on the chip, operands loaded lines ahead",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=transposed(bind_forward),
    backward=transposed(bind_backward),
    launches=launches,
    supports=supports,
    traffic=traffic,
)
