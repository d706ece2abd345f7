"""``gspn2bench compare``: what changed between two recorded runs."""

from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import console, print_json


def compare(
    base: RunName,
    new: RunName,
    threshold: Annotated[
        str, typer.Option(help="The change that matters: 3% or 0.03, of the faster run.")
    ] = "3%",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 where a verdict is AMBIGUOUS.")
    ] = False,
    ignore_environment: Annotated[
        bool,
        typer.Option("--ignore-environment", help="Compare across GPUs and drivers."),
    ] = False,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row: SAME, FASTER, SLOWER or AMBIGUOUS, from their samples.

    Exits with 1 when a row is SLOWER or its latency was lost; if not, and under
    --strict, with 4 when a row is AMBIGUOUS.
    """
    from gspn2bench.analysis.compare import compare, parse_threshold
    from gspn2bench.analysis.significance import Verdict
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.text.changes import render_terminal, summary_line, to_json

    share = parse_threshold(threshold)
    before, after = (read_run(find_run(name, results)) for name in (base, new))
    found = compare(before, after, share, ignore_environment=ignore_environment)
    ambiguous = strict and found.count(Verdict.AMBIGUOUS)
    code = 1 if found.regressed else 4 if ambiguous else 0
    if as_json:
        print_json(to_json(found) | {"exit_code": code})
    elif quiet:
        typer.echo(summary_line(found))
    else:
        console().print(render_terminal(found))
    if code:
        raise typer.Exit(code)
