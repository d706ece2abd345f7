"""``gspn2bench sweep``: measure a scenario and record the run."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from gspn2bench.commands.options import CASES, MEASURE, PLACE, RESULTS, Axes, NewRuns, Rungs, Seed
from gspn2bench.commands.words import words_of
from gspn2bench.errors import UsageError

if TYPE_CHECKING:
    from gspn2bench.backend import Backend
    from gspn2bench.kernels.contract import Rung
    from gspn2bench.scenario import Case
    from gspn2bench.schema import Row
    from gspn2bench.store import RunWriter
    from gspn2bench.sweep import Sweep


def sweep(
    scenario: Annotated[
        str | None,
        typer.Argument(help="A scenario's name (`gspn2bench list`), or a path to a .toml."),
    ] = None,
    rung: Rungs = None,
    axis: Axes = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the cases and their bytes.", rich_help_panel=CASES),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Do what an interrupted run has left; takes its cases and settings.",
            rich_help_panel=CASES,
        ),
    ] = None,
    timing: Annotated[
        str,
        typer.Option(help="Latencies to take, comma-separated.", rich_help_panel=MEASURE),
    ] = "eager,graph,device",
    l2: Annotated[
        str | None,
        typer.Option(
            help="L2 cache when a call starts: cold or warm.",
            show_default="the scenario's",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Samples of each latency, at most.", rich_help_panel=MEASURE)
    ] = 100,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="Time for each latency; it ends earlier once the median is known to 1 %.",
            rich_help_panel=MEASURE,
        ),
    ] = 3.0,
    limit: Annotated[
        float,
        typer.Option(
            min=0.1, help="Longest time for one rung on one case, s.", rich_help_panel=MEASURE
        ),
    ] = 300.0,
    seed: Seed = 0,
    device: Annotated[
        str,
        typer.Option(
            help="cuda, sim (Numba's simulator), or auto: a GPU if there is one.",
            rich_help_panel=PLACE,
        ),
    ] = "auto",
    results: NewRuns = RESULTS,
) -> None:
    """Measure a scenario's cases on each rung, and record a row for each.

    Exits with 0 when every row is ok or skipped for a reason, 3 when some failed or none is ok,
    130 when interrupted; rows that are done are kept.
    """
    if resume is not None:
        if scenario is not None or rung is not None or axis:
            raise UsageError("--resume: takes its cases from the run; give no scenario, rung, axis")
        _resume(resume, device, results)
        return
    if scenario is None:
        raise UsageError("scenario: give one; `gspn2bench list scenarios` names them")

    from gspn2bench import backend
    from gspn2bench.axes import parse_axis
    from gspn2bench.scenario import cases, load
    from gspn2bench.schema import L2State, Timing

    plan = load(scenario)
    chosen_cases = cases(plan, [parse_axis(text) for text in axis or []])
    timings = words_of("timing", timing, get_args(Timing))
    (l2_state,) = words_of("l2", l2 or plan.l2, get_args(L2State))
    where = backend.activate(device)

    from gspn2bench import rungs
    from gspn2bench import sweep as room
    from gspn2bench.measure.timing import Budget
    from gspn2bench.trial import Settings

    references = rungs.references(words_of("rung", rung) if rung is not None else plan.rungs)
    if dry_run:
        _list_cases(chosen_cases, [rungs.find(reference) for reference in references])
        return
    settings = Settings(
        scenario=plan.name,
        timings=timings,  # type: ignore[arg-type]
        l2=l2_state,  # type: ignore[arg-type]
        seed=seed,
        budget=Budget(samples, seconds),
    )
    todo = room.Sweep(tuple(chosen_cases), tuple(references), settings, limit)
    command = ["gspn2bench", *sys.argv[1:]]
    with room.create(results, plan, todo, where, command) as writer:
        _say_if_simulated(where)
        rows = _run(writer, todo, ())
    _summarise(rows, writer.path)


def _resume(name: str, device: str, results: Path) -> None:
    """Do what is left of a run, on the kind of machine that it was begun on."""
    from gspn2bench import backend, store
    from gspn2bench.environment import collect

    run = store.read_run(store.find_run(name, results))
    where = backend.activate("sim" if run.record.simulated and device == "auto" else device)
    gpus = [found.get("gpu") or {} for found in (run.record.environment, collect())]
    if where.simulated != run.record.simulated or gpus[0].get("name") != gpus[1].get("name"):
        was = gpus[0].get("name") or "the simulator"
        raise UsageError(f"--resume: {run.path.name} was begun on {was}; go on with it there")

    from gspn2bench import sweep as room

    todo = room.planned(run.record)
    with store.RunWriter(run.path, run.record, resume=True) as writer:
        if aside := store.set_torn_aside(run):
            typer.echo(f"warning: the last line was torn; it is kept in {aside}", err=True)
        _say_if_simulated(where)
        rows = _run(writer, todo, run.rows)
    _summarise(rows, run.path)


def _say_if_simulated(where: "Backend") -> None:
    if where.simulated:
        typer.echo(f"simulated, so without latencies: {where.reason}", err=True)


def _run(writer: "RunWriter", todo: "Sweep", done: "Sequence[Row]") -> "list[Row]":
    """Do the trials under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from gspn2bench import rungs
    from gspn2bench import sweep as room

    rows: list[Row] = []
    words = TextColumn("{task.description}", markup=False)
    left = TextColumn("left")
    console = Console(stderr=True)
    with Progress(
        words, BarColumn(bar_width=20), MofNCompleteColumn(), TimeLeft(), left, console=console
    ) as progress:
        bar = progress.add_task("measuring the machine", total=len(todo.trials))
        steps = room.run(writer, todo, done)
        try:
            for finished, (case, reference) in enumerate(todo.trials):
                words_now = f"{rungs.find(reference).id} {case.label}"
                progress.update(bar, completed=finished, description=words_now)
                rows += next(steps).rows
            next(steps, None)
        except (KeyboardInterrupt, OSError) as error:
            progress.stop()
            steps.close()
            code, why = 130, "interrupted"
            if isinstance(error, OSError):
                code, why = 3, f"the run can't be written: {error.strerror}"
            typer.echo(
                f"{why}; what is done is kept: gspn2bench sweep --resume {writer.path}", err=True
            )
            raise typer.Exit(code) from None
        progress.update(bar, completed=len(todo.trials), description="done")
    return rows


def _summarise(rows: "list[Row]", path: Path) -> None:
    counts = Counter(row.status for row in rows)
    for row in rows:
        if row.status not in ("ok", "skipped"):
            typer.echo(f"{row.status}: {row.rung} {row.case} {row.timing}: {row.reason}", err=True)
    typer.echo(", ".join(f"{count} {status}" for status, count in counts.items()), err=True)
    typer.echo(f"report: gspn2bench report {path}", err=True)
    typer.echo(str(path))
    if not counts["ok"] or set(counts) - {"ok", "skipped"}:
        raise typer.Exit(3)


def _list_cases(cases: "Sequence[Case]", rungs: "Sequence[Rung]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gspn2bench.workload import Workload

    table = Table(title=f"{len(cases)} cases", title_justify="left")
    for name in ("case", "phase"):
        table.add_column(name)
    table.add_column("bytes", justify="right")
    table.add_column("rungs that skip it")
    total = 0
    for case in cases:
        works = [Workload.of(case, rung) for rung in rungs]
        size = works[0].compulsory_bytes
        total += size
        skips = [work.rung.id for work in works if work.unsupported]
        table.add_row(Text(case.label), case.phase, f"{size:,}", " ".join(skips))
    Console().print(table)
    runs = " ".join(rung.id for rung in rungs)
    typer.echo(f"rungs: {runs}; {total:,} bytes in all, each input read and output written once")
