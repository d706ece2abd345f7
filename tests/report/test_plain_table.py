"""Tables that are written directly look like those of rich."""

import re

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from gspn2bench.report.text.plain_table import Column, Line, PlainTable


def rendered(what: RenderableType, width: int, *, colour: bool = False) -> str:
    console = Console(width=width, force_terminal=colour, highlight=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize("width", [10, 20, 31, 32, 33, 80])
@pytest.mark.parametrize("overflow", ["fold", "ellipsis"])
def test_a_table_is_the_one_of_rich(width: int, overflow: str) -> None:
    columns = [Column("rung", folds=True), Column("ms", right=True), Column("status")]
    table = PlainTable(columns, overflow)  # type: ignore[arg-type]
    table.add_row("r01", "1,234.5", ("ok", "green"))
    table.add_row("[bold]漢字", "", ("no number", "bold red"))
    assert rendered(table, width) == rendered(table._by_rich(), width)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", rendered(table, width, colour=True))
    assert plain == rendered(table._by_rich(), width)


def test_styles_are_shown_in_colour() -> None:
    table = PlainTable([Column("a"), Column("b")])
    table.add_row(("x", "green"), "y")
    assert "\x1b[32mx\x1b[0m  y" in rendered(table, 80, colour=True)


@pytest.mark.parametrize("width", [5, 11, 12, 80])
def test_a_line_is_the_one_of_rich(width: int) -> None:
    line = Line((("[b]head", "bold"), " tail"))
    text = Text.assemble(("[b]head", "bold"), " tail")
    assert rendered(line, width) == rendered(text, width)
    assert rendered(Line(), width) == "\n"
