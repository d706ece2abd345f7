"""The ring of lines in shared memory: producer warps fill it, and the other warps read it.

The lines of the ring are in groups. Each group has two mbarriers: its producers have filled it, and
the computing warps have read it. A producer copies asynchronously: it starts the copies of a group
and goes on with the next one, so the whole ring is on its way at once. Copies by a computing warp
would take as long again as its own reads, since a warp gets a quarter of the bandwidth of shared
memory.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gspn2bench.kernels import mbarrier, wide
from gspn2bench.kernels.jit import WARP, Array, device_function
from gspn2bench.kernels.r08_strips.configuration import HALO_LANES, OWN_LANES, Config
from gspn2bench.problem import ceil_div

BuildCopyLine = Callable[[Config, int, int], Any]
COPIED_LINES: Final = 4
"""Lines that a producer copies without a loop."""


def piece_of(config: Config) -> int:
    """Columns per copy: as many as 16 bytes hold, if the width is a multiple; or fewer."""
    piece = 16 // config.item_bytes
    while config.width % piece:
        piece //= 2
    return piece


def copied_bytes(config: Config) -> int:
    """Bytes per copy: the tensors begin at a multiple of them."""
    return piece_of(config) * config.item_bytes


def build_init(config: Config) -> Any:
    """The device function ``init(barriers)``, for one thread of the block."""
    groups, warps, producers = config.groups, config.warps, config.producers

    @device_function
    def init(barriers: Array) -> None:
        for i in range(groups):
            mbarrier.init(barriers, i, WARP * producers)
            mbarrier.init(barriers, groups + i, warps)

    return init


def build_copy(config: Config, to_offset: int, offset: int) -> Any:
    """The function that copies one piece; see ``wide.copy_async``."""
    piece = piece_of(config)
    if piece * config.item_bytes in wide.COPIED_BYTES:
        return wide.copy_async(piece * config.item_bytes, to_offset, offset)
    return wide.copy_value(config.dtype, to_offset, offset)


def build_produce(config: Config, build_copy_line: BuildCopyLine, stride: int) -> Any:
    """The device function of a producer warp.

    (ring, barriers, producer, rank, lane, rows, first, weight_first, inputs): load ``rows`` lines,
    beginning with those at ``first`` in x and the tensors like it, and at ``weight_first`` in the
    weights. A lane copies the same columns of every line of a group.

    Args:
        config: of the kernel.
        build_copy_line: (config, to_offset, offset) -> the device function (ring, to, inputs,
            index, weight_index, inside, place, last). It copies a lane's piece of every operand of
            one line. ``to`` is its index in the ring, ``index`` in x, and ``weight_index`` in the
            weights; the offsets are added to them. ``inside`` is whether its columns are in the
            line, ``place`` its first column in the block's span, and ``last`` whether the line is
            the last one of the walk.
        stride: from line to line of the walk.
    """
    group, groups, producers = config.group, config.groups, config.producers
    line_size, shared, width = config.line, config.shared, config.width
    own, halo, span, piece = config.warps * config.strip, config.halo, config.span, piece_of(config)
    asynchronous = piece * config.item_bytes in wide.COPIED_BYTES
    turns = group // producers
    together = min(turns, COPIED_LINES)
    lines = [
        build_copy_line(config, k * producers * line_size, k * producers * stride)
        for k in range(together)
    ]
    copy_all, copy_left = _in_turn(lines, producers, False), _in_turn(lines, producers, True)
    walked = together * producers  # lines of the walk, to the next ones that are copied together
    next_slot, next_line = walked * line_size, walked * stride
    reach = walked - producers  # from the first line that is copied to the last one
    steps = turns // together
    passes, ragged = ceil_div(span, piece * WARP), span % (piece * WARP) != 0

    @device_function
    def produce(
        ring: Array, barriers: Array, producer: int, rank: int, lane: int, rows: int,
        first: int, weight_first: int, inputs: Any,
    ) -> None:  # fmt: skip
        begin = np.int64(rank) * own - halo
        number = np.uint32(0)
        start = np.int64(producer)  # this warp's first line of the group
        while start - np.int64(producer) < rows:
            slot = np.uint32(number % np.uint32(groups))
            use = np.uint32(number // np.uint32(groups))
            if use > 0:  # wait until the group's lines have been read
                mbarrier.wait(barriers, groups + slot, (use + np.uint32(1)) & np.uint32(1))
            line = (np.int64(slot) * group + np.int64(producer)) * line_size
            for q in range(passes):
                place = (q * WARP + np.int64(lane)) * piece
                if not ragged or place < span:
                    column = begin + place
                    inside = column >= 0 and column < width
                    to, index = line + place, first + start * stride + column
                    weight_index = weight_first + start * stride + column if shared else index
                    left = rows - start
                    for _ in range(steps):
                        if left > reach:
                            copy_all(ring, to, inputs, index, weight_index, inside, place, left)
                        else:
                            copy_left(ring, to, inputs, index, weight_index, inside, place, left)
                        to, left = to + next_slot, left - walked
                        index, weight_index = index + next_line, weight_index + next_line
            if asynchronous:
                mbarrier.arrive_after_copies(barriers, slot)
            else:
                mbarrier.arrive(barriers, slot)
            number = np.uint32(number + np.uint32(1))
            start += group

    return produce


def _in_turn(lines: list[Any], producers: int, check: bool, first: int = 0) -> Any:
    """The device function that copies a lane's piece of several lines, without a loop.

    Its last argument is the number of lines left in the walk, from the first one on.

    Args:
        lines: device functions, each for one line.
        producers: lines of the walk from one to the next.
        check: whether some of the lines may be behind the last one of the walk.
        first: number of the first line, counted in turns.
    """
    if len(lines) == 1:
        (copy_line,) = lines
        before = first * producers

        @device_function
        def copy(
            ring: Array, to: int, inputs: Any, index: int, weight_index: int, inside: bool,
            place: int, left: int,
        ) -> None:  # fmt: skip
            if not check or left > before:
                last = left == before + 1
                copy_line(ring, to, inputs, index, weight_index, inside, place, last)

        return copy

    half = len(lines) // 2
    copy_first = _in_turn(lines[:half], producers, check, first)
    copy_second = _in_turn(lines[half:], producers, check, first + half)

    @device_function
    def copy_both(
        ring: Array, to: int, inputs: Any, index: int, weight_index: int, inside: bool, place: int,
        left: int,
    ) -> None:  # fmt: skip
        copy_first(ring, to, inputs, index, weight_index, inside, place, left)
        copy_second(ring, to, inputs, index, weight_index, inside, place, left)

    return copy_both


def build_take_line(config: Config) -> Any:
    """The device function ``take_line(ring, index, pieces)``: a lane's columns of every operand.

    ``index`` is that of the first one in the ring. ``pieces`` has 4 bytes each, operand by
    operand.
    """
    operands, span = config.operands, config.span
    count = config.run * config.item_bytes // 4
    load = wide.load_pieces(count)

    @device_function
    def take_one(ring: Array, index: int, pieces: Array, first: int) -> None:
        (pieces[first],) = load(ring, np.uint64(index))

    @device_function
    def take_two(ring: Array, index: int, pieces: Array, first: int) -> None:
        pieces[first], pieces[first + 1] = load(ring, np.uint64(index))

    @device_function
    def take_four(ring: Array, index: int, pieces: Array, first: int) -> None:
        (
            pieces[first], pieces[first + 1], pieces[first + 2], pieces[first + 3],
        ) = load(ring, np.uint64(index))  # fmt: skip

    take = {1: take_one, 2: take_two, 4: take_four}[count]

    @device_function
    def take_line(ring: Array, index: int, pieces: Array) -> None:
        for i in range(operands):
            take(ring, index + i * span, pieces, i * count)

    return take_line


def first_column(config: Config) -> Any:
    """The device function ``(rank, warp, lane) -> column``: the first column of a lane.

    It may be outside the line, on either side.
    """
    warps, run = config.warps, config.run

    @device_function
    def column_of(rank: int, warp: int, lane: int) -> Any:
        strip = np.int64(rank) * warps + np.int64(warp)
        return (strip * OWN_LANES + np.int64(lane) - HALO_LANES) * run

    return column_of
