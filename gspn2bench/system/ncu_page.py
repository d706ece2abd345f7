"""Nsight Compute's raw page as CSV: a line of column names, a line of units, a line per kernel.

ncu prints it with ``--csv --page raw``. Its own messages stand around the page and begin with "==".
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAME: Final = "Kernel Name"
"""The column that every page has."""


@dataclass(frozen=True)
class Page:
    """A raw page.

    Args:
        columns: names of the columns, in order.
        units: by column; "" where ncu prints none.
        kernels: the cells of each kernel by column, in the order in which the kernels ran.
    """

    columns: tuple[str, ...]
    units: Mapping[str, str]
    kernels: tuple[Mapping[str, str], ...]


def parse(text: str) -> Page | None:
    """The page in what ncu printed; None where there is no page."""
    table = csv.reader(line for line in text.splitlines() if line.startswith('"'))
    columns = next((line for line in table if NAME in line), None)
    units = next(table, None)
    if columns is None or units is None:
        return None
    kernels = tuple(dict(zip(columns, line, strict=False)) for line in table)
    return Page(tuple(columns), dict(zip(columns, units, strict=False)), kernels)


def whole_number(cell: str, scale: int = 1) -> int:
    """A cell times ``scale``, rounded; ncu groups thousands with commas.

    Raises:
        ValueError: the cell is not a finite number.
    """
    try:
        return round(float(cell.replace(",", "")) * scale)
    except OverflowError as error:
        raise ValueError(f"{cell!r} is not a finite number") from error
