"""Tables and lines for a terminal, written directly where they fit its width.

rich takes about 10 ms to lay out a table, which is too slow for a run of thousands of cases. The
output is the same. A table or line that does not fit is laid out by rich.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

Cell = str | tuple[str, str]
"""Text, or text and its style."""

RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        header: its header.
        right: align to the right.
        folds: whether long cells may be folded in a narrow terminal.
    """

    header: str
    right: bool = False
    folds: bool = False


@dataclass
class PlainTable:
    """A table with a line below its header; cells are never read as rich's markup.

    Args:
        columns: its columns.
        overflow: what rich does with a cell that is too long for a narrow terminal.
        rows: its cells, from ``add_row``.
    """

    columns: Sequence[Column]
    overflow: Literal["fold", "ellipsis"] = "fold"
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add_row(self, *cells: Cell) -> None:
        """Add a row with one cell per column."""
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich calls to render the table."""
        widths = [
            max(cell_len(text) for text in (column.header, *map(_text, cells)))
            for column, *cells in zip(self.columns, *self.rows, strict=True)
        ]
        total = sum(widths) + 2 * (len(widths) - 1)
        if total > options.max_width or _has_line_breaks(self):
            yield self._by_rich()
            return
        yield from self._line(console, [(each.header, "bold") for each in self.columns], widths)
        yield Segment(RULE * total + "\n")
        for row in self.rows:
            yield from self._line(console, row, widths)

    def _line(
        self, console: Console, cells: Sequence[Cell], widths: Sequence[int]
    ) -> Iterator[Segment]:
        plain = ""
        last = len(widths) - 1
        for place, (column, cell, width) in enumerate(
            zip(self.columns, cells, widths, strict=True)
        ):
            text, style = cell if isinstance(cell, tuple) else (cell, "")
            blank = " " * (width - cell_len(text))
            padded = blank + text if column.right else text + blank
            gap = "" if place == last else "  "
            if style:
                yield Segment(plain)
                yield Segment(padded, console.get_style(style))
                plain = gap
            else:
                plain += padded + gap
        yield Segment(plain + "\n")

    def _by_rich(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for column in self.columns:
            table.add_column(
                column.header,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold" if column.folds else self.overflow,
            )
        for row in self.rows:
            table.add_row(*(Text(_text(cell), style=_style(cell)) for cell in row))
        return table


@dataclass(frozen=True)
class Line:
    """A line of text, folded by rich if it is too long."""

    parts: tuple[Cell, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich calls to render the line."""
        if sum(cell_len(_text(part)) for part in self.parts) > options.max_width:
            yield Text.assemble(*((_text(part), _style(part)) for part in self.parts))
            return
        for part in self.parts:
            yield Segment(
                _text(part), console.get_style(style) if (style := _style(part)) else None
            )
        yield Segment.line()


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def _has_line_breaks(table: PlainTable) -> bool:
    return any("\n" in _text(cell) for row in table.rows for cell in row)
