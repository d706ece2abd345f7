"""Stores of a lane's columns, as wide as the width of the plane allows."""

from typing import Any

import numpy as np

from gspn2bench.kernels import wide
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import ITEM_BYTES


def build_store(dtype: str, run: int, width: int) -> Any:
    """The device function ``store(target, first, column, values, start)``.

    It stores ``values[start]`` and the following ones, as many as a lane has columns, from
    ``column`` on. ``first`` is the index of the line's first column. Columns outside the line are
    left out.

    Args:
        dtype: storage type of the target.
        run: columns of a lane.
        width: columns of a line.
    """
    together = run
    while width % together:
        together //= 2
    kind = storage_of(dtype)
    join, narrow = kind.join, kind.narrow
    each = 4 // ITEM_BYTES[dtype]  # values per piece
    pieces = together // each
    put = wide.store_pieces(max(1, pieces))

    @device_function
    def piece(values: Array, i: int) -> Any:
        return join(values[i], values[i + each - 1])

    @device_function
    def store_values(target: Array, first: int, column: int, values: Array, start: int) -> None:
        for j in range(run):
            if column + j < width:
                target[np.uint64(first + column + j)] = narrow(values[start + j])

    @device_function
    def store_one(target: Array, first: int, column: int, values: Array, start: int) -> None:
        for j in range(0, run, together):
            if column + j < width:
                put(target, np.uint64(first + column + j), (piece(values, start + j),))

    @device_function
    def store_two(target: Array, first: int, column: int, values: Array, start: int) -> None:
        for j in range(0, run, together):
            if column + j < width:
                i = start + j
                both = (piece(values, i), piece(values, i + each))
                put(target, np.uint64(first + column + j), both)

    @device_function
    def store_four(target: Array, first: int, column: int, values: Array, start: int) -> None:
        if column < width:
            four = (
                piece(values, start), piece(values, start + each),
                piece(values, start + 2 * each), piece(values, start + 3 * each),
            )  # fmt: skip
            put(target, np.uint64(first + column), four)

    return {0: store_values, 1: store_one, 2: store_two, 4: store_four}[pieces]
