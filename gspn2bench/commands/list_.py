"""``gspn2bench list``."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands import completion
from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet
from gspn2bench.commands.output import console, echo, print_json
from gspn2bench.errors import UsageError

Entry = tuple[str, str, str]
"""A name, its title and its idea."""


class Kind(StrEnum):
    """What can be listed; baselines and modules are listed with the rungs."""

    RUNGS = "rungs"
    SCENARIOS = "scenarios"


def list_(
    kind: Annotated[Kind | None, typer.Argument(metavar="KIND", help="List only these.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print only the names, one per line.")
    ] = False,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the rungs as the Markdown page docs/ladder.md."),
    ] = False,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="Run with the numbers for that page; repeatable.",
            autocompletion=completion.runs,
        ),
    ] = None,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """List rungs, baselines, modules and scenarios, each with its idea."""
    if markdown:
        if kind is not Kind.RUNGS or plain or quiet or as_json:
            raise UsageError("--markdown: works only as `gspn2bench list rungs --markdown`")
        echo(_page(run or [], results), nl=False)
        return
    if run:
        raise UsageError("--run: needs --markdown")
    listed: dict[str, list[Entry]] = {}
    if kind in (None, Kind.RUNGS):
        listed |= _rungs()
    if kind in (None, Kind.SCENARIOS):
        listed["scenarios"] = _scenarios()
    if as_json:
        names = ("name", "title", "idea")
        print_json(
            {
                title: [dict(zip(names, row, strict=True)) for row in rows]
                for title, rows in listed.items()
            }
        )
        return
    for title, rows in listed.items():
        if plain or quiet:
            echo("\n".join(row[0] for row in rows))
        else:
            _print_table(title, rows)


def _rungs() -> dict[str, list[Entry]]:
    # slow: they import numba and torch
    from gspn2bench.baselines.modules import MODULES
    from gspn2bench.baselines.scans import SCANS
    from gspn2bench.kernels.ladder import LADDER

    return {
        title: [(each.id, each.title, each.idea) for each in known.values()]
        for title, known in (("rungs", LADDER), ("baselines", SCANS), ("modules", MODULES))
    }


def _page(names: list[str], results: Path) -> str:
    from gspn2bench.kernels import ladder
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.summary import run_ids
    from gspn2bench.report.text.ladder import Lesson, render

    files = {id(module.RUNG): module for module in vars(ladder).values() if hasattr(module, "RUNG")}
    lessons = []
    for rung in ladder.LADDER.values():
        module = files[id(rung)]
        file = Path(module.__file__)
        name = file.parent.name if file.stem == "__init__" else file.name
        link = f"../kernels/{name}"
        lessons.append(Lesson(rung.id, rung.title, rung.idea, link, module.__doc__))
    runs = [read_run(find_run(name, results)) for name in names]
    ids = run_ids(runs) if runs else []
    command = ["gspn2bench", "list", "rungs", "--markdown", *(f"--run={name}" for name in ids)]
    return render(lessons, runs, shlex.join(command))


def _scenarios() -> list[Entry]:
    from gspn2bench.cases import scenario

    loaded = [scenario.load(name) for name in scenario.names()]
    return [(one.name, one.title, _first_sentence(one.description)) for one in loaded]


def _first_sentence(text: str) -> str:
    head, stop, _ = " ".join(text.split()).partition(". ")
    return head + stop.rstrip()


def _print_table(title: str, rows: list[Entry]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column(title.removesuffix("s"), no_wrap=True)
    table.add_column("title")
    table.add_column("idea")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)
