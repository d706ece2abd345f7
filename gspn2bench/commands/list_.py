"""``gspn2bench list``."""

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    RUNGS = "rungs"
    SCENARIOS = "scenarios"


def list_(
    kind: Annotated[Kind | None, typer.Argument(help="Only these; both by default.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Only names, one a line.")] = False,
) -> None:
    """List the rungs of the ladder and the scenarios, each with its idea."""
    for one in [kind] if kind else list(Kind):
        rows = _rungs() if one is Kind.RUNGS else _scenarios()
        if plain:
            typer.echo("\n".join(row[0] for row in rows))
        else:
            _print_table(one, rows)


def _rungs() -> list[tuple[str, str, str]]:
    # numba and torch come with it
    from gspn2bench.kernels.ladder import LADDER

    return [(rung.id, rung.title, rung.idea) for rung in LADDER.values()]


def _scenarios() -> list[tuple[str, str, str]]:
    from gspn2bench import scenario

    loaded = [scenario.load(name) for name in scenario.names()]
    return [(one.name, one.title, _first_sentence(one.description)) for one in loaded]


def _first_sentence(text: str) -> str:
    head, stop, _ = " ".join(text.split()).partition(". ")
    return head + stop.rstrip()


def _print_table(kind: Kind, rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=kind.value, title_justify="left")
    table.add_column(kind.value.removesuffix("s"), no_wrap=True)
    table.add_column("title")
    table.add_column("idea")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
