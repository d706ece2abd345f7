"""``gspn2bench trace``: the timelines of a run for Perfetto."""

from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import echo, print_json


def trace(
    run: RunName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write.",
            show_default="reports/<run>.trace.json",
        ),
    ] = None,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write the timelines of a run's profiles as a trace, and print its path.

    The run needs a profile of nsys, which ``ingest`` adds. The trace opens in ui.perfetto.dev and
    in chrome://tracing.
    """
    from gspn2bench.records.store import find_run, read_profiles, read_run
    from gspn2bench.report.files import file_name
    from gspn2bench.report.text import chrome_trace

    target = read_run(find_run(run, results))
    run_id = target.record.run_id
    file = output or Path("reports") / f"{file_name([run_id])}.trace.json"
    chrome_trace.write(run_id, read_profiles(target.path), file)
    if as_json:
        print_json({"run": run_id, "files": [str(file)]})
        return
    echo(str(file))
    if not quiet:
        echo("open it in https://ui.perfetto.dev or chrome://tracing", err=True)
