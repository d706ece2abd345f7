"""The walk of r08, which forward and backward share: who loads, who computes, and when they meet.

A block has computing warps, each with a strip of columns, and producer warps. Both walk the lines
of a chunk. They wait for each other only at the groups of the ring; see ring.py. Every few lines
the computing warps exchange the edges of their strips; see edges.py.
"""

from typing import Any

import numpy as np
from numba import cuda, from_dtype

from gspn2bench.kernels import mbarrier
from gspn2bench.kernels.cluster import cluster_arrive, cluster_arrive_relaxed, cluster_wait
from gspn2bench.kernels.jit import WARP, Array, device_function
from gspn2bench.kernels.r08_strips.configuration import HALO_LANES, OWN_LANES, Config
from gspn2bench.kernels.r08_strips.edges import build_exchange, build_init_mailboxes
from gspn2bench.kernels.r08_strips.ring import (
    BuildCopyLine,
    build_init,
    build_produce,
    build_take_line,
    first_column,
)
from gspn2bench.kernels.warp import sync_warp, warp_number


def build_walk(config: Config, scan_line: Any, build_copy_line: BuildCopyLine) -> Any:
    """The device function ``walk(inputs, outputs, height, channels, chunk, chunks)``.

    Args:
        config: of the kernel.
        scan_line: (state, first, column, stored, outputs) computes a lane's columns of one line.
            ``state`` is four local arrays: the columns of the line before, the pieces of this line,
            those of weights that it leaves for the next line, and values to store. ``first`` is
            the index of the line's first element in the tensors.
        build_copy_line: see ``ring.build_produce``.
    """
    blocks, warps, group, groups = config.blocks, config.warps, config.group, config.groups
    width, shared, run, line_size = config.width, config.shared, config.run, config.line
    kind = from_dtype(np.dtype(config.raw))
    edges_size, barriers_size = config.edges, config.barriers
    exchanges, between = config.strips > 1, config.halo // group
    operand = run * config.item_bytes // 4
    pieces_size, weights_size, values_size = config.operands * operand, 3 * operand, 5 * run
    backward, upward = config.operands > 5, config.upward
    stride = width if backward == upward else -width  # from line to line of the walk
    whole = run_divides(config)
    init, init_mailboxes = build_init(config), build_init_mailboxes(config)
    column_of = first_column(config)
    produce = build_produce(config, build_copy_line, stride)
    send, receive = build_exchange(config)
    take_line = build_take_line(config)
    scan_rest = _build_scan_rest(take_line, scan_line, group, line_size, stride)

    @device_function
    def walk(
        inputs: Any, outputs: Any, height: int, channels: int, chunk: int, chunks: int
    ) -> None:
        thread = np.uint32(cuda.threadIdx.x)
        lane, warp = np.uint32(thread % np.uint32(WARP)), warp_number(thread)
        rank = np.uint32(np.uint32(cuda.blockIdx.x) % np.uint32(blocks))
        part = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(blocks))
        slice_ = np.uint32(part // np.uint32(chunks))
        begin = np.int64(np.uint32(part % np.uint32(chunks))) * chunk
        count = min(np.int64(chunk), height - begin)
        rows = np.uint32(count)
        start = begin + count - 1 if backward else begin  # in scan order
        row = height - 1 - start if upward else start
        first = (np.int64(slice_) * height + row) * width
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_first = (np.int64(weight_slice) * height + row) * width

        ring = cuda.shared.array(0, kind)
        edges = cuda.shared.array(edges_size, np.float32)
        barriers = cuda.shared.array(barriers_size, np.uint64)
        if thread == 0:
            init(barriers)
            init_mailboxes(barriers)
        cuda.syncthreads()
        if blocks > 1:
            cluster_arrive()  # the other blocks' barriers are ready once all have arrived

        if warp >= warps:
            producer = np.uint32(warp - np.uint32(warps))
            produce(ring, barriers, producer, rank, lane, rows, first, weight_first, inputs)
            if blocks > 1:
                cluster_wait()
        else:
            if blocks > 1:
                cluster_wait()
            own = cuda.local.array(run, np.float32)
            pieces = cuda.local.array(pieces_size, np.uint32)
            weights = cuda.local.array(weights_size, np.uint32)
            values = cuda.local.array(values_size, np.float32)
            for j in range(run):
                own[j] = np.float32(0)
            for j in range(weights_size):
                weights[j] = np.uint32(0)
            state = (own, pieces, weights, values)
            column = column_of(rank, warp, lane)
            stored = lane >= HALO_LANES and lane < HALO_LANES + OWN_LANES
            if whole:
                stored = stored and column < width
            place = np.int64(warp * np.uint32(OWN_LANES) + lane) * run  # of a line in the ring
            number, exchanged, since = np.uint32(0), np.uint32(0), np.uint32(0)
            done = np.uint32(0)
            while done < rows:
                slot = np.uint32(number % np.uint32(groups))
                use = np.uint32(number // np.uint32(groups))
                mbarrier.wait(barriers, slot, use & np.uint32(1))
                index = np.int64(slot) * (group * line_size) + place
                take_line(ring, index, pieces)  # while the edges are on their way
                if exchanges and since == between:
                    receive(edges, barriers, own, exchanged, rank, warp, lane)
                    exchanged = np.uint32(exchanged + np.uint32(1))
                    since = np.uint32(0)
                scan_line(state, first, column, stored, outputs)
                if np.uint32(done + np.uint32(group)) <= rows:
                    scan_rest(ring, index, state, first, column, stored, outputs)
                else:
                    for k in range(1, group):
                        if np.uint32(done + np.uint32(k)) < rows:
                            take_line(ring, index + k * line_size, pieces)
                            scan_line(state, first + k * stride, column, stored, outputs)
                sync_warp()
                if lane == 0:
                    mbarrier.arrive(barriers, groups + slot)
                first += group * stride
                done = np.uint32(done + np.uint32(group))
                number = np.uint32(number + np.uint32(1))
                since = np.uint32(since + np.uint32(1))
                if exchanges and since == between and done < rows:
                    send(edges, barriers, own, exchanged, rank, warp, lane)
        if blocks > 1:  # no block ends while its shared memory is used
            cluster_arrive_relaxed()
            cluster_wait()

    return walk


def run_divides(config: Config) -> bool:
    """Whether a lane's columns are all inside the line or all outside."""
    return config.width % config.run == 0


def _build_scan_rest(
    take_line: Any, scan_line: Any, group: int, line_size: int, stride: int
) -> Any:
    """The device function that scans the lines of a group after the first, without a loop.

    The compiler does not unroll a loop this long. Without a loop, the loads of a line overlap with
    the arithmetic of the lines before. Powers of two lines are put together, so there are few
    functions to compile: lines 2 and 3, for example, are line 1 twice, further on.

    Args:
        take_line: see ``ring.build_take_line``.
        scan_line: see ``build_walk``.
        group: lines of a group, a power of two.
        line_size: from line to line in the ring.
        stride: from line to line in the tensors.
    """

    @device_function
    def scan_one(
        ring: Array, index: int, state: Any, first: int, column: int, stored: bool, outputs: Any
    ) -> None:
        take_line(ring, index, state[1])
        scan_line(state, first, column, stored, outputs)

    rest, block, lines = None, scan_one, 1  # rest: lines 1 to ``lines`` - 1; block: ``lines`` lines
    while lines < group:
        rest = _one_after_another(rest, block, lines * line_size, lines * stride)
        block = _one_after_another(block, block, lines * line_size, lines * stride)
        lines *= 2
    return rest


def _one_after_another(first_part: Any, second_part: Any, place: int, distance: int) -> Any:
    """The device function that runs two others, the second one some lines further on."""

    @device_function
    def second(
        ring: Array, index: int, state: Any, first: int, column: int, stored: bool, outputs: Any
    ) -> None:
        second_part(ring, index + place, state, first + distance, column, stored, outputs)

    if first_part is None:
        return second

    @device_function
    def both(
        ring: Array, index: int, state: Any, first: int, column: int, stored: bool, outputs: Any
    ) -> None:
        first_part(ring, index, state, first, column, stored, outputs)
        second(ring, index, state, first, column, stored, outputs)

    return both
