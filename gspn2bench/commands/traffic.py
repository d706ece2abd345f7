"""``gspn2bench traffic``: the bytes that rungs move, by model, trace and hardware counters."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from gspn2bench.commands.options import MEASURE, RESULTS, Axes, NewRuns, Rungs, Scenario, Seed
from gspn2bench.errors import unknown

if TYPE_CHECKING:
    from rich.table import Table

    from gspn2bench.schema import Row
    from gspn2bench.store import RunWriter
    from gspn2bench.traffic import Plan


def traffic(
    scenario: Scenario,
    rung: Rungs = None,
    axis: Axes = None,
    tool: Annotated[
        str,
        typer.Option(
            help="trace (simulator, small cases), ncu (a GPU's counters), or all.",
            rich_help_panel=MEASURE,
        ),
    ] = "all",
    seed: Seed = 0,
    results: NewRuns = RESULTS,
) -> None:
    """Count the bytes that rungs move: by model, traced, and by the GPU's counters.

    Traced are 32-byte sectors, summed over the loads and stores of every warp. No latency is
    measured. Exits with 0 when every row is ok or skipped for a reason, 3 when some failed or none
    is ok, 130 when interrupted; rows that are done are kept.
    """
    from gspn2bench import backend
    from gspn2bench.axes import parse_axis
    from gspn2bench.commands.words import words_of
    from gspn2bench.scenario import cases, load

    plan = load(scenario)
    chosen_cases = cases(plan, [parse_axis(text) for text in axis or []])
    tools = ("trace", "ncu", "all")
    if tool not in tools:
        raise unknown("tool", tool, tools)
    backend.activate("sim")  # ncu profiles a process of its own

    from gspn2bench import rungs
    from gspn2bench import traffic as room

    assert tools == get_args(room.Tool)
    references = rungs.references(words_of("rung", rung) if rung is not None else plan.rungs)
    todo = room.Plan(plan, tuple(chosen_cases), tuple(references), tool, seed)  # type: ignore[arg-type]
    with room.create(results, todo, ["gspn2bench", *sys.argv[1:]]) as writer:
        rows = _run(writer, todo)
    _print(rows)
    _summarise(rows, writer.path)


def _run(writer: "RunWriter", todo: "Plan") -> "list[Row]":
    """Do the trials under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gspn2bench import rungs
    from gspn2bench import traffic as room

    rows: list[Row] = []
    words = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    with Progress(words, BarColumn(bar_width=20), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("", total=len(todo.trials))
        steps = room.run(writer, todo)
        try:
            for done, (case, reference) in enumerate(todo.trials):
                now = f"{rungs.find(reference).id} {case.label}"
                bar.update(task, completed=done, description=now)
                rows += next(steps)
            next(steps, None)
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(f"interrupted; {len(rows)} rows are kept in {writer.path}", err=True)
            raise typer.Exit(130) from None
        bar.update(task, completed=len(todo.trials), description="done")
    return rows


def _print(rows: "Sequence[Row]") -> None:
    """A table for each case: model, traced and hardware side by side."""
    from rich.console import Console
    from rich.text import Text

    from gspn2bench.report.text import printable

    console = Console(highlight=False)
    for case in dict.fromkeys(row.case for row in rows):
        console.print(Text(printable(case), style="bold"))
        console.print(_table([row for row in rows if row.case == case]))


def _table(rows: "Sequence[Row]") -> "Table":
    """A line for each rung and pass; the columns of a tool that was not used are left out."""
    from rich import box
    from rich.table import Table

    from gspn2bench.report.text import TIMES, number, size
    from gspn2bench.traffic import amplification, sector_bytes, sectors_per_request

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for header in ("rung", "pass"):
        table.add_column(header, no_wrap=True)
    traced = any(row.simulated for row in rows)
    counted = not all(row.simulated for row in rows)
    for header in (
        "model",
        *(("traced", f"{TIMES} model", "a request") if traced else ()),
        *(("L1 (ncu)", "DRAM warm", "DRAM cold") if counted else ()),
    ):
        table.add_column(header, justify="right", no_wrap=True)
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        tool = "trace" if row.simulated else row.l2
        lines.setdefault((row.rung, row.phase), {})[tool] = row
    for (rung, phase), by_tool in lines.items():
        cells = [rung, {"forward": "fwd", "backward": "bwd"}[phase]]
        cells.append(_cell(next(iter(by_tool.values())).bytes_model, size))
        if "trace" in by_tool:
            trace = by_tool["trace"]
            cells.append(_figure(trace, sector_bytes(trace)))
            cells += [_cell(f(trace), number) for f in (amplification, sectors_per_request)]
        if "warm" in by_tool:
            warm, cold = by_tool["warm"], by_tool["cold"]
            cells.append(_figure(warm, sector_bytes(warm)))
            cells += [_cell(each.bytes_dram, size) for each in (warm, cold)]
        table.add_row(*cells)
    return table


def _figure(row: "Row", value: float | None) -> str:
    """Bytes, or why there are none."""
    from gspn2bench.report.text import size
    from gspn2bench.traffic import is_unavailable

    if row.status == "ok":
        return _cell(value, size)
    return "unavailable" if is_unavailable(row) else row.status


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)


def _summarise(rows: "Sequence[Row]", path: Path) -> None:
    from gspn2bench.traffic import is_unavailable

    reasons = (
        row.reason if is_unavailable(row) else f"{row.status}: {row.rung} {row.case}: {row.reason}"
        for row in rows
        if row.status != "ok"
    )
    for reason in dict.fromkeys(reasons):
        typer.echo(reason, err=True)
    counts = Counter(row.status for row in rows)
    typer.echo(", ".join(f"{count} {status}" for status, count in counts.items()), err=True)
    typer.echo(str(path))
    if not counts["ok"] or set(counts) - {"ok", "skipped"}:
        raise typer.Exit(3)
