"""Where an element of a tile lies: in global memory in words of a plane, in shared memory by line.

A tile is a few lines of one scan: rows of the plane for "down" and "up", columns for "right" and
"left". In shared memory all four look alike: line by line in the order of the scan. The functions
of this file are the only ones that tell the directions apart.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.jit import SIMULATED, device_function
from gspn2bench.kernels.r09_quad.configuration import RIGHT, Config


@cache
def build_places(config: Config) -> tuple[Any, Any, Any, Any]:
    """Compile the functions that find a word and its elements.

    Returns:
        place: (word of the tile, vertical) -> its first line and position in the tile.
        offset: (line, position, vertical, sign) -> words from the tile's corner in the plane.
        slot: (position) -> index of a position within a line in shared memory.
        element: (line, position, i, vertical, sign) -> index of a word's element i in shared
            memory.
    """
    pack, run, halo = config.pack, config.run, config.halo
    row_words, column_words = max(1, config.row_span // pack), config.lines // pack
    plane_row = config.width // pack
    pitch, line_pitch = config.slots
    shift, run_shift = pack.bit_length() - 1, run.bit_length() - 1

    @device_function
    def place(word: int, vertical: bool) -> Any:
        q = np.uint32(word)
        if vertical:
            line = np.int64(np.uint32(q // np.uint32(row_words)))
            position = np.int64(np.uint32(q % np.uint32(row_words))) << shift
        else:
            line = np.int64(np.uint32(q % np.uint32(column_words))) << shift
            position = np.int64(np.uint32(q // np.uint32(column_words)))
        return line, position

    @device_function
    def offset(line: int, position: int, vertical: bool, sign: int) -> Any:
        if vertical:
            words = sign * line * plane_row + ((position - halo) >> shift)
        else:
            words = (position - halo) * plane_row + sign * (line >> shift)
        return words

    @device_function
    def slot(position: int) -> Any:
        return (position & (run - 1)) * pitch + (position >> run_shift) + 1

    @device_function
    def element(line: int, position: int, i: int, vertical: bool, sign: int) -> Any:
        across = i if sign > 0 else pack - 1 - i
        of_line = line if vertical else line + across
        of_position = position + i if vertical else position
        return of_line * line_pitch + slot(of_position)

    return place, offset, slot, element


@cache
def build_bounds(config: Config) -> tuple[Any, Any]:
    """Compile the functions that tell whether a word counts.

    Returns:
        inside: (line, position, vertical, left, low, length) -> whether a word is one of the last
            ``left`` lines of the scan, and inside the line.
        owned: (line, position, vertical, left) -> whether a word is the block's to write.
    """
    lines, halo = config.lines, config.halo
    row_span, column_span = config.row_span, config.column_span

    @device_function
    def inside(line: int, position: int, vertical: bool, left: int, low: int, length: int) -> bool:
        span = row_span if vertical else column_span
        in_line = 0 <= position + low < length and position < span
        return line < min(left, lines) and in_line

    @device_function
    def owned(line: int, position: int, vertical: bool, left: int) -> bool:
        span = row_span if vertical else column_span
        return line < min(left, lines) and halo <= position < span - halo

    return inside, owned


@cache
def build_block(config: Config) -> tuple[Any, Any]:
    """Compile the functions that find a block's scan.

    Returns:
        block_of: (block, groups, chunk, chunks) -> direction, vertical, part, group of channels,
            first line of the chunk, and image.
        start_of: (direction, part, begin, rows, backward) -> corner, jump, sign, low, length and
            first. The first two are words: from the start of the plane to the first tile's corner,
            and from tile to tile. The sign is 1 if the walk follows memory, else -1. ``low`` is the
            position in the line of the tile's first, ``length`` that of a whole line, and ``first``
            the row or column of the first line. Backward walks from the chunk's last line.
    """
    height, width, pack, lines = config.height, config.width, config.pack, config.lines
    plane_row, halo, parts = width // pack, config.halo, config.parts
    first_direction, directions = config.first, config.directions
    only_rows = config.first + config.directions <= RIGHT
    only_columns = config.first >= RIGHT

    @device_function
    def block_of(block: int, groups: int, chunk: int, chunks: int) -> Any:
        rest = np.uint32(block)
        part = np.int64(np.uint32(rest % np.uint32(parts)))
        rest = np.uint32(rest // np.uint32(parts))
        group = np.int64(np.uint32(rest % np.uint32(groups)))
        rest = np.uint32(rest // np.uint32(groups))
        direction = np.int64(np.uint32(rest % np.uint32(directions))) + first_direction
        rest = np.uint32(rest // np.uint32(directions))
        begin = np.int64(np.uint32(rest % np.uint32(chunks))) * chunk
        image = np.int64(np.uint32(rest // np.uint32(chunks)))
        vertical = only_rows or (not only_columns and direction < RIGHT)
        return direction, vertical, part, group, begin, image

    @device_function
    def start_of(direction: int, part: int, begin: int, rows: int, backward: bool) -> Any:
        vertical = only_rows or (not only_columns and direction < RIGHT)
        extent = height if vertical else width
        follows = (direction % 2 == 0) != backward
        start = begin + rows - 1 if backward else begin
        first = start if direction % 2 == 0 else extent - 1 - start
        sign = 1 if follows else -1
        if vertical:
            own = part * (width // parts)
            corner = first * plane_row + own // pack
            jump = sign * lines * plane_row
            length = width
        else:
            own = part * (height // parts)
            corner = own * plane_row + first // pack
            jump = sign * lines // pack
            length = height
        return corner, jump, sign, own - halo, length, first

    return block_of, start_of


@cache
def build_line_barrier(config: Config) -> Any:
    """Compile the function that ends a line of the walk: a barrier of a warp or of the block."""
    if config.one_warp and not SIMULATED:

        @device_function
        def of_warp() -> None:
            cuda.syncwarp()

        return of_warp

    @device_function
    def of_block() -> None:
        cuda.syncthreads()

    return of_block
