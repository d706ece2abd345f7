"""``gspn2bench show``: a recorded run in the terminal."""

from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import console, print_json
from gspn2bench.errors import UsageError


def show(
    run: RunName,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Print a run: the verdict, then a table for each case."""
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.formatting import printable
    from gspn2bench.report.text import records
    from gspn2bench.report.text.terminal import render_terminal
    from gspn2bench.report.verdict import conclusion

    if csv and as_json:
        raise UsageError("--csv: give it or --json")
    found = read_run(find_run(run, results))
    if as_json:
        print_json(records.to_json(found))
    elif csv:
        typer.echo(records.to_csv(found), nl=False)
    elif quiet:
        typer.echo(printable(conclusion(found).headline))
    else:
        console().print(render_terminal(found))
