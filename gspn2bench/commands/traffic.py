"""``gspn2bench traffic``: bytes moved per rung, by model, trace and hardware counters."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gspn2bench.commands.choices import TrafficTool, comma_separated
from gspn2bench.commands.options import (
    RESULTS,
    AsJson,
    Axes,
    MaybeScenario,
    NewRuns,
    Quiet,
    Resume,
    Rungs,
    Seed,
)
from gspn2bench.commands.output import print_notes
from gspn2bench.commands.progress import Ended, conclude, follow
from gspn2bench.commands.resume import (
    check_alone,
    on_the_same_gpu,
    reopened,
    required,
    wrong_machine,
)
from gspn2bench.problem import SHORT_PHASES

if TYPE_CHECKING:
    from rich.table import Table

    from gspn2bench.records.schema import Row
    from gspn2bench.records.store import RunWriter
    from gspn2bench.traffic.rows import TrafficSweep


def traffic(
    scenario: MaybeScenario = None,
    rung: Rungs = None,
    axis: Axes = None,
    resume: Resume = None,
    tool: Annotated[
        TrafficTool,
        typer.Option(help="trace: small cases, simulated. ncu: counters of a GPU. all: both."),
    ] = TrafficTool.ALL,
    seed: Seed = 0,
    results: NewRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Count the bytes that each rung moves, and record a run.

    The model is a formula of the rung. The trace counts 32-byte sectors over the loads and stores
    of every warp. Nsight Compute reads the GPU's counters. No latency is measured.

    Exit codes: 0 if every row is ok or skipped, 3 if a row failed or none is ok, 130 if
    interrupted. Finished rows are kept.
    """
    if resume is not None:
        check_alone(scenario, rung, axis)
        ended, path = _resume(resume, results, quiet=quiet)
    else:
        name = required(scenario)
        ended, path = _begin(name, rung, axis or [], tool, seed, results, quiet=quiet)
    if not quiet and not as_json:
        _print(ended.rows)
    conclude(
        ended,
        path,
        _complaints(ended.rows),
        resume=f"gspn2bench traffic --resume {path}",
        hint="",
        quiet=quiet,
        as_json=as_json,
    )


def _begin(
    scenario: str,
    rung: str | None,
    axis: Sequence[str],
    tool: TrafficTool,
    seed: int,
    results: Path,
    *,
    quiet: bool,
) -> tuple[Ended, Path]:
    from gspn2bench.cases.axes import parse_axis
    from gspn2bench.cases.scenario import load
    from gspn2bench.cases.selection import select
    from gspn2bench.system import backend

    loaded = load(scenario)
    selection = select(loaded, [parse_axis(text) for text in axis])
    print_notes(selection.notes, quiet=quiet)
    backend.activate("sim")  # ncu profiles a separate process

    from gspn2bench import registry
    from gspn2bench.traffic import rows as traffic_rows
    from gspn2bench.traffic import run as runner

    references = registry.specs(comma_separated("rung", rung) if rung is not None else loaded.rungs)
    plan = traffic_rows.TrafficSweep(
        loaded.name,
        loaded.l2,
        selection.cases,
        tuple(references),
        tool.value,
        seed,
    )
    with runner.create(results, loaded, plan, ["gspn2bench", *sys.argv[1:]]) as writer:
        return _run(writer, plan, (), quiet=quiet), writer.path


def _resume(name: str, results: Path, *, quiet: bool) -> tuple[Ended, Path]:
    """Complete a run; one with hardware counters needs the same GPU."""
    from gspn2bench.records import store
    from gspn2bench.system import backend

    run = store.read_run(store.find_run(name, results))
    if not run.record.simulated and not on_the_same_gpu(run):
        raise wrong_machine(run)
    backend.activate("sim")

    from gspn2bench.traffic import run as runner

    plan = runner.planned(run.record)
    with reopened(run) as writer:
        return _run(writer, plan, run.rows, quiet=quiet), run.path


def _run(writer: "RunWriter", plan: "TrafficSweep", done: "Sequence[Row]", *, quiet: bool) -> Ended:
    from gspn2bench.traffic import run as runner

    labels = [case.label for case, _ in plan.trials]
    with closing(runner.run(writer, plan, done)) as steps:
        return follow(steps, labels, quiet=quiet)


def _print(rows: "Sequence[Row]") -> None:
    """A table per case: model, trace and hardware counters side by side."""
    from rich.console import Console
    from rich.text import Text

    from gspn2bench.report.formatting import printable

    console = Console(highlight=False)
    for case in dict.fromkeys(row.case for row in rows):
        console.print(Text(printable(case), style="bold"))
        console.print(_table([row for row in rows if row.case == case]))


def _table(rows: "Sequence[Row]") -> "Table":
    """A line per rung and phase; the columns of a tool that was not used are left out."""
    from rich import box
    from rich.table import Table

    from gspn2bench.report.formatting import TIMES, number, size
    from gspn2bench.traffic.run import amplification, sector_bytes, sectors_per_request

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for header in ("rung", "phase"):
        table.add_column(header, no_wrap=True)
    traced = any(row.simulated for row in rows)
    counted = not all(row.simulated for row in rows)
    for header in (
        "model",
        *(("traced", f"{TIMES} model", "per request") if traced else ()),
        *(("L1 (ncu)", "DRAM warm", "DRAM cold") if counted else ()),
    ):
        table.add_column(header, justify="right", no_wrap=True)
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        tool = "trace" if row.simulated else row.l2
        lines.setdefault((row.rung, row.phase), {})[tool] = row
    for (rung, phase), by_tool in lines.items():
        cells = [rung, SHORT_PHASES[phase]]
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
    """The bytes, or why there is no number."""
    from gspn2bench.report.formatting import size
    from gspn2bench.traffic.rows import is_unavailable

    if row.status == "ok":
        return _cell(value, size)
    return "unavailable" if is_unavailable(row) else row.status


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)


def _complaints(rows: "Sequence[Row]") -> list[str]:
    from gspn2bench.traffic.rows import is_unavailable

    return [
        str(row.reason)
        if is_unavailable(row)
        else f"{row.status}: {row.rung} {row.case}: {row.reason}"
        for row in rows
        if row.status != "ok"
    ]
