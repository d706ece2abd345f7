"""``gspn2bench sweep``: measure a scenario and record a run."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gspn2bench.commands import completion
from gspn2bench.commands.choices import L2, Device, Timing, comma_separated
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
from gspn2bench.commands.output import console, echo, print_json, print_notes
from gspn2bench.commands.progress import Ended, RungDisplay, conclude, follow
from gspn2bench.commands.resume import (
    check_alone,
    on_the_same_gpu,
    reopened,
    required,
    wrong_machine,
)
from gspn2bench.errors import UsageError
from gspn2bench.system.executables import PROFILED

if TYPE_CHECKING:
    from gspn2bench.cases.scenario import Case
    from gspn2bench.records import schema
    from gspn2bench.records.schema import Row
    from gspn2bench.records.store import RunWriter
    from gspn2bench.run.cooling import Cooling
    from gspn2bench.run.sweep import Sweep
    from gspn2bench.system.backend import Backend


def sweep(
    scenario: MaybeScenario = None,
    rung: Rungs = None,
    axis: Axes = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cases and their bytes; measure nothing.")
    ] = False,
    resume: Resume = None,
    timing: Annotated[
        str | None,
        typer.Option(
            metavar=f"[{'|'.join(Timing)}],...",
            help="Latencies to measure, separated by commas.",
            show_default="those of the scenario",
            autocompletion=completion.timings,
        ),
    ] = None,
    l2: Annotated[
        L2 | None,
        typer.Option(
            help="State of the L2 cache when a call starts.", show_default="that of the scenario"
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Most samples per latency.")] = 100,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="Longest time per latency, s; sampling ends earlier once the median is known "
            "to 1 %.",
        ),
    ] = 3.0,
    limit: Annotated[
        float, typer.Option(min=0.1, help="Time limit for one rung on one case, s.")
    ] = 300.0,
    wait_for_cool: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            min=1,
            help="Start a case only below this temperature of the GPU, Celsius.",
            show_default="any",
        ),
    ] = None,
    wait_limit: Annotated[
        float,
        typer.Option(
            min=1, help="Longest wait per case, s; its rows are then not_run. With --wait-for-cool."
        ),
    ] = 300.0,
    seed: Seed = 0,
    device: Annotated[
        Device,
        typer.Option(help="cuda: a GPU. sim: Numba's simulator. auto: a GPU if there is one."),
    ] = Device.AUTO,
    results: NewRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure the cases of a scenario on each rung, and record a run.

    Exit codes: 0 if every row is ok or skipped, 3 if a row failed or none is ok, 130 if
    interrupted. Finished rows are kept.
    """
    if resume is not None:
        check_alone(scenario, rung, axis)
        ended, path = _resume(resume, device, results, quiet=quiet)
        _summarise(ended, path, quiet=quiet, as_json=as_json)
        return
    name = required(scenario)
    _refuse_silent_profiler()

    from gspn2bench.cases.axes import parse_axis
    from gspn2bench.cases.scenario import load
    from gspn2bench.cases.selection import select
    from gspn2bench.system import backend

    plan = load(name)
    selection = select(plan, [parse_axis(text) for text in axis or []])
    print_notes(selection.notes, quiet=quiet)
    timings: tuple[schema.Timing, ...] = plan.timing
    if timing is not None:
        words = comma_separated("timing", timing, [*Timing])
        timings = tuple(Timing(word).value for word in words)
    chosen_backend = backend.activate(device)

    from gspn2bench import registry
    from gspn2bench.measure.timing import Budget
    from gspn2bench.run import sweep as runner
    from gspn2bench.run.trial import Settings

    references = registry.specs(comma_separated("rung", rung) if rung is not None else plan.rungs)
    chosen_cases = [
        case for case in selection.cases if registry.rungs_for_part(references, case.part)
    ]
    if not chosen_cases:
        raise UsageError(f"--rung: no case of {plan.name} can be run by {', '.join(references)}")
    if dry_run:
        _list_cases(chosen_cases, references, quiet=quiet, as_json=as_json)
        return
    settings = Settings(
        scenario=plan.name,
        timings=timings,
        l2=plan.l2 if l2 is None else l2.value,
        seed=seed,
        budget=Budget(samples, seconds),
    )
    cooling = _cooling(wait_for_cool, wait_limit, chosen_backend)
    todo = runner.Sweep(tuple(chosen_cases), tuple(references), settings, limit, cooling)
    command = ["gspn2bench", *sys.argv[1:]]
    with runner.create(results, plan, todo, chosen_backend, command) as writer:
        ended = _run(writer, todo, (), chosen_backend, quiet=quiet)
    _summarise(ended, writer.path, quiet=quiet, as_json=as_json)


def _refuse_silent_profiler() -> None:
    """Refuse to run under a profiler that would capture nothing.

    Raises:
        UsageError: the profiler does not record the ranges of the installed nvtx.
    """
    if not os.environ.get(PROFILED):
        return
    from gspn2bench.nvtx_ranges import profiler_records_nothing

    if profiler_records_nothing():
        from gspn2bench.system.nvtx_probe import FIX

        raise UsageError(
            "profiler: it is attached but does not record the ranges of this nvtx, so it would "
            f"capture nothing; fix: {FIX}"
        )


def _cooling(below_c: float | None, limit_s: float, backend: "Backend") -> "Cooling | None":
    """The temperature at which a case may start; None without --wait-for-cool.

    Raises:
        UsageError: the temperature cannot be read.
    """
    if below_c is None:
        return None
    if backend.simulated:
        raise UsageError("--wait-for-cool: needs a GPU; the simulator has no temperature")

    from gspn2bench.run.cooling import Cooling
    from gspn2bench.system import management

    if management.temperature_c() is None:
        raise UsageError("--wait-for-cool: NVML does not report the temperature of this GPU")
    return Cooling(below_c, limit_s)


def _resume(name: str, device: Device, results: Path, *, quiet: bool) -> tuple[Ended, Path]:
    """Complete a run, on the same kind of machine that it was begun on."""
    from gspn2bench.records import store
    from gspn2bench.system import backend

    run = store.read_run(store.find_run(name, results))
    simulate = run.record.simulated and device is Device.AUTO
    chosen_backend = backend.activate(Device.SIM if simulate else device)
    if chosen_backend.simulated != run.record.simulated or not on_the_same_gpu(run):
        raise wrong_machine(run)

    from gspn2bench.run import sweep as runner

    todo = runner.planned(run.record)
    with reopened(run) as writer:
        return _run(writer, todo, run.rows, chosen_backend, quiet=quiet), run.path


def _run(
    writer: "RunWriter", todo: "Sweep", done: "Sequence[Row]", backend: "Backend", *, quiet: bool
) -> Ended:
    from gspn2bench.run import sweep as runner

    if backend.simulated and not quiet:
        echo(f"simulated, no latencies: {backend.reason}", err=True)
    labels = [case.label for case, _ in todo.trials]
    display = RungDisplay()
    with closing(runner.run(writer, todo, done, display)) as steps:
        return follow((step.rows for step in steps), labels, quiet=quiet, display=display)


def _summarise(ended: Ended, path: Path, *, quiet: bool, as_json: bool) -> None:
    conclude(
        ended,
        path,
        (
            f"{row.status}: {row.rung} {row.case} {row.timing}: {row.reason}"
            for row in ended.rows
            if row.status not in ("ok", "skipped")
        ),
        resume=f"gspn2bench sweep --resume {path}",
        hint=f"report: gspn2bench report {path}",
        quiet=quiet,
        as_json=as_json,
    )


def _list_cases(
    cases: "Sequence[Case]", references: "Sequence[str]", *, quiet: bool, as_json: bool
) -> None:
    """Print the cases, with the most bytes that one of the rungs must move."""
    from gspn2bench import registry
    from gspn2bench.workload import workload_of

    ids = [registry.find(reference).id for reference in references]
    rows = []
    for case in cases:
        fitting = [registry.find(each) for each in registry.rungs_for_part(references, case.part)]
        workloads = {rung.id: workload_of(case, rung) for rung in fitting}
        skips = [name for name, workload in workloads.items() if workload.skip_reason]
        most = max(workload.compulsory_bytes for workload in workloads.values())
        rows.append((case, most, skips))
    total = sum(size for _, size, _ in rows)
    if as_json:
        documents = [
            {"case": case.label, "phase": case.phase, "bytes": size, "skipped_by": skips}
            for case, size, skips in rows
        ]
        print_json({"cases": documents, "rungs": ids, "bytes": total})
        return
    if not quiet:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"{len(cases)} cases", title_justify="left")
        for name in ("case", "phase"):
            table.add_column(name)
        table.add_column("bytes", justify="right")
        table.add_column("skipped by")
        for case, size, skips in rows:
            table.add_row(Text(case.label), case.phase, f"{size:,}", " ".join(skips))
        console().print(table)
        echo(f"rungs: {' '.join(ids)}")
    echo(f"{total:,} bytes in total: each input read once, each output written once")
