"""``gspn2bench profile``: profile a scenario with Nsight Systems or Nsight Compute."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gspn2bench.commands.choices import ProfiledTiming, Profiler, comma_separated
from gspn2bench.commands.options import AsJson, Axes, Quiet, Rungs, Scenario
from gspn2bench.commands.output import console, echo, print_json, print_notes
from gspn2bench.errors import UsageError, check_utf8
from gspn2bench.problem import SHORT_PHASES

if TYPE_CHECKING:
    from rich.table import Table

    from gspn2bench.profile.command import ProfileJob
    from gspn2bench.profile.trace import Tool
    from gspn2bench.records.schema import ProfiledTrial
    from gspn2bench.records.store import Run


def profile(
    scenario: Scenario,
    tool: Annotated[
        Profiler,
        typer.Option(help="nsys: a timeline. ncu: hardware counters of a few kernels."),
    ] = Profiler.NSYS,
    rung: Rungs = None,
    axis: Axes = None,
    timing: Annotated[
        ProfiledTiming | None,
        typer.Option(
            help="How calls are launched; device time can't be profiled.",
            show_default="graph with nsys, eager with ncu",
        ),
    ] = None,
    launches: Annotated[
        int,
        typer.Option(min=1, help="Kernels that ncu profiles per case and rung."),
    ] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands; run nothing.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="New folder for the reports.",
            show_default="profiles/<scenario>-<tool>-<time>",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Profile each case on each rung with nsys or ncu.

    Prints launches, GPU time and gaps per call. Latencies under a profiler are distorted, so they
    are kept apart from other runs and never reported.

    Exit codes: 0 if every case has a profile, 2 if the tool is missing, 3 if a profile is missing,
    130 if interrupted.
    """
    from gspn2bench import registry
    from gspn2bench.cases.axes import parse_axis
    from gspn2bench.cases.scenario import load
    from gspn2bench.cases.selection import select
    from gspn2bench.profile import command, runner
    from gspn2bench.system.executables import INSTALL

    profiler: Tool = tool.value
    mode = timing or {"nsys": ProfiledTiming.GRAPH, "ncu": ProfiledTiming.EAGER}[profiler]
    plan = load(scenario)
    selection = select(plan, [parse_axis(text) for text in axis or []])
    print_notes(selection.notes, quiet=quiet)
    words = comma_separated("rung", rung) if rung is not None else plan.rungs
    executable = runner.find(profiler)
    program = ["gspn2bench"] if executable is None else None
    folder = output or Path("profiles") / f"{plan.name}-{tool}"
    if executable is not None and not dry_run:
        runner.check(profiler, executable)
        folder = _make_folder(output, f"{plan.name}-{tool}")
    request = command.Request(
        tool=profiler,
        scenario=scenario,
        trials=tuple(registry.trials(selection.cases, words)),
        timing=mode.value,
        launches=launches,
        folder=folder,
    )
    jobs = command.profile_jobs(request, str(executable or tool), program)
    lines = "\n".join(shlex.join(job.command) for job in jobs)
    if dry_run:
        if as_json:
            print_json({"folder": str(folder), "commands": [list(job.command) for job in jobs]})
        else:
            echo(lines)
        return
    if executable is None:
        raise UsageError(
            f"--tool: {tool} was not found; fix: {INSTALL[profiler]}\n"
            "Or run these commands on a machine that has it, copy the reports here, and add them "
            f"with `gspn2bench ingest`:\nmkdir -p {shlex.quote(str(folder))}\n{lines}"
        )
    _run(jobs, folder, quiet=quiet, as_json=as_json)


def _make_folder(output: Path | None, name: str) -> Path:
    from gspn2bench.records.store import create_folder

    if output is None:
        return create_folder(Path("profiles"), name)
    check_utf8("--output", str(output))
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--output: {output} can't be created: {error.strerror}") from error
    return output


def _run(jobs: "Sequence[ProfileJob]", folder: Path, *, quiet: bool, as_json: bool) -> None:
    """Run the jobs one after the other, then print their figures."""
    from gspn2bench.profile.runner import ProfilerError

    trials: list[ProfiledTrial] = []
    failed = False
    for number, job in enumerate(jobs, 1):
        if not quiet:
            echo(f"{number}/{len(jobs)} {job.name}", err=True)
        try:
            trials += _profile(job)
        except (ProfilerError, UsageError) as error:
            failed = True
            echo(f"failed: {job.name}: {error}", err=True)
        except KeyboardInterrupt:
            echo(f"interrupted; finished reports are kept in {folder}", err=True)
            raise typer.Exit(130) from None
    code = 3 if failed or not trials else 0
    if trials and not quiet:
        echo(f"add a report to a run: gspn2bench ingest {jobs[0].report} RUN", err=True)
    if as_json:
        # the timelines are in the reports
        figures = [trial.model_dump(mode="json", exclude={"timeline"}) for trial in trials]
        print_json({"folder": str(folder), "trials": figures, "exit_code": code})
    else:
        if trials and not quiet:
            console().print(table(trials))
        echo(str(folder))
    if code:
        raise typer.Exit(code)


def _profile(job: "ProfileJob") -> "tuple[ProfiledTrial, ...]":
    """Run a job and read its report; empty if the rung can't run the case."""
    from gspn2bench.profile import figures, runner

    missing = None
    try:
        runner.run(job)
    except runner.ProfilerError as error:
        missing = error
    run = _swept(job)
    for row in run.rows if run is not None else ():
        if row.status == "skipped":
            echo(f"{job.name}: skipped: {row.reason}", err=True)
            return ()
        if row.status not in ("ok", "unstable"):
            raise runner.ProfilerError(f"{row.status}: {row.reason}") from missing
    if missing is not None:
        raise missing
    if run is None:
        raise runner.ProfilerError(f"the sweep recorded no run; see {job.report.stem}.log")
    return figures.summarise(runner.read(job.report), job.report, run).trials


def _swept(job: "ProfileJob") -> "Run | None":
    """The run of the profiled sweep; None if the sweep failed before it."""
    from gspn2bench.records.store import read_run

    folders = list(job.runs.iterdir()) if job.runs.is_dir() else []
    return read_run(folders[0]) if folders else None


def table(trials: "Sequence[ProfiledTrial]") -> "Table":
    """Launches, GPU time and gaps per call, one line per trial."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from gspn2bench.report.formatting import count, number, percent, printable

    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("case", "rung", "phase"):
        result.add_column(title)
    for title in ("launches", "GPU ms", "gaps ms", "idle"):
        result.add_column(title, justify="right")
    for trial in trials:
        launches = count(trial.launches)
        if trial.launches < trial.launches_expected:
            launches = f"{launches} of {count(trial.launches_expected)}"
        gap, idle = "", ""
        if trial.gap_ms is not None and trial.span_ms:
            gap, idle = number(trial.gap_ms), percent(trial.gap_ms / trial.span_ms)
        result.add_row(
            Text(printable(trial.case)),
            Text(printable(trial.rung)),
            SHORT_PHASES[trial.phase],
            launches,
            number(trial.gpu_ms),
            gap,
            idle,
        )
    return result
