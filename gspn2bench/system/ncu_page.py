"""Nsight Compute's raw page as CSV: a line of column names, a line of units, a line per kernel.

ncu prints it with ``--csv --page raw``. Its own messages stand around the page and begin with "==".
Numbers follow the locale of ncu: "778,240" is written as "778.240" where a comma separates
decimals. A number that could be read in both ways is never guessed.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

NAME: Final = "Kernel Name"
"""The column that every page has."""
ID: Final = "ID"
"""The column with the number of each kernel; kernels are numbered one after the other."""
EXPORT: Final = "export again with LC_ALL=C ncu --import FILE --csv --page raw --print-units base"
METRIC: Final = "__"
"""Part of the name of every metric, and of no other column."""
_GROUPED: Final = r"(?:[1-9]\d{{0,2}}(?:{0}\d{{3}})+|\d+)"
_NUMBER: Final = re.compile(_GROUPED.format(",") + r"(?:\.\d+)?", re.ASCII)
"""A number as written in the locale C."""
_OTHER: Final = re.compile(_GROUPED.format(r"\.") + r"(?:,\d+)?", re.ASCII)
"""A number as written where a comma separates decimals."""
_DIGITS: Final = re.compile(r"[\d.,]*\d", re.ASCII)


class PageError(ValueError):
    """A page that can't be read; the message names the line or the cell."""


@dataclass(frozen=True)
class Page:
    """A raw page.

    Args:
        columns: names of the columns, in order.
        units: by column; "" where ncu prints none.
        kernels: the cells of each kernel by column, in the order in which the kernels ran.
        point: whether some number of the page shows that a point separates decimals.
    """

    columns: tuple[str, ...]
    units: Mapping[str, str]
    kernels: tuple[Mapping[str, str], ...]
    point: bool = False

    def whole_number(self, cells: Mapping[str, str], column: str, scale: int) -> int:
        """A cell of a kernel times ``scale``, as ``whole_number`` reads it.

        Raises:
            ValueError: the cell is not such a number, or could be read in two ways.
        """
        cell = cells[column]
        if scale != 1 and not self.point and _ambiguous(cell):
            raise ValueError(f"{cell!r} is 1000 times more in some locales; {EXPORT}")
        return whole_number(cell, scale)


def decode(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark as shells of Windows write it.

    Raises:
        PageError: the bytes are not such a text.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise PageError(f"not a text in UTF-8: {error.reason} at byte {error.start}") from error


def parse(text: str) -> Page | None:
    """The page in what ncu printed; None where there is no page.

    Raises:
        PageError: the page is cut off or joined with another one, has no line of units, lacks
            kernels, or its numbers are not written as in the locale C.
    """
    table = _lines(text)
    columns = next((line for _, line in table if NAME in line), None)
    units = next(table, None)
    if columns is None or units is None:
        return None
    lines = [units, *table]
    for number, line in lines:
        if line == columns:
            raise PageError(f"line {number}: a second page begins; give one page per file")
        if len(line) != len(columns):
            raise PageError(
                f"line {number}: {len(line)} cells below {len(columns)} columns: the page is cut "
                "off or damaged"
            )
    rows = [dict(zip(columns, line, strict=True)) for _, line in lines]
    if rows[0][NAME]:
        raise PageError(f"no line of units below the column names; {EXPORT}")
    _check_order(rows[1:])
    point = _has_point(columns, rows[1:])
    return Page(tuple(columns), rows[0], tuple(rows[1:]), point)


def whole_number(cell: str, scale: int = 1) -> int:
    """A number as written in the locale C, times ``scale``, rounded.

    Args:
        cell: digits, with thousands grouped by commas.
        scale: base units per unit; a fraction of a base unit (``scale`` 1) can't be.

    Raises:
        ValueError: the cell is not such a number.
    """
    if not _NUMBER.fullmatch(cell):
        raise ValueError(f"{cell!r} is not a number")
    if scale == 1 and "." in cell and (_ambiguous(cell) or cell.partition(".")[2].strip("0")):
        raise ValueError(f"{cell!r} has a fraction, and its unit has none; {EXPORT}")
    return round(float(cell.replace(",", "")) * scale)


def _ambiguous(cell: str) -> bool:
    """Whether a cell with a separator is a number in both kinds of locales, as 1,024 is."""
    return not cell.isdigit() and bool(_NUMBER.fullmatch(cell) and _OTHER.fullmatch(cell))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of the page with their numbers, without ncu's messages.

    Lines before the column names may be of the profiled program, and need not be CSV.
    """
    begun = False
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.startswith('"'):
            continue
        try:
            (cells,) = csv.reader([line], strict=True)
        except (csv.Error, ValueError) as error:
            if begun or f'"{NAME}"' in line:
                raise PageError(f"line {number}: {error}: the page is cut off or damaged") from None
            continue
        begun = begun or NAME in cells
        yield number, cells


def _check_order(kernels: list[dict[str, str]]) -> None:
    """Check that no kernel is missing or repeated.

    Raises:
        PageError: the numbers of two kernels are not consecutive.
    """
    if not kernels or ID not in kernels[0]:
        return
    for before, after in pairwise(kernels):
        numbers = before[ID], after[ID]
        if not all(re.fullmatch(r"\d{1,9}", each, re.ASCII) for each in numbers):
            raise PageError(f"kernels are numbered {numbers[0]!r}, {numbers[1]!r}, not in order")
        if int(numbers[1]) != int(numbers[0]) + 1:
            raise PageError(
                f"kernel {numbers[1]} follows kernel {numbers[0]}: kernels are missing or repeated"
            )


def _has_point(columns: list[str], kernels: list[dict[str, str]]) -> bool:
    """Whether a number shows that a point separates decimals.

    Raises:
        PageError: a number shows that it does not.
    """
    point = False
    for column in columns:
        if METRIC not in column:
            continue
        for cells in kernels:
            cell = cells[column].removeprefix("-")
            if not _DIGITS.fullmatch(cell):
                continue
            if not _NUMBER.fullmatch(cell):
                raise PageError(f"{column} is {cell!r}, a number of a different locale; {EXPORT}")
            point = point or not _OTHER.fullmatch(cell)
    return point
