"""``gspn2bench show``: a run in the terminal."""

from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import console, echo, print_json
from gspn2bench.errors import UsageError


def show(
    run: RunName,
    csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Print the verdict of a run and a table per case."""
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.formatting import printable
    from gspn2bench.report.text import records
    from gspn2bench.report.text.terminal import render_terminal
    from gspn2bench.report.verdict import conclusion

    if csv and as_json:
        raise UsageError("--csv: can't be combined with --json")
    loaded = read_run(find_run(run, results))
    if as_json:
        print_json(records.to_json(loaded))
    elif csv:
        echo(records.to_csv(loaded), nl=False)
    elif quiet:
        echo(printable(conclusion(loaded).headline))
    else:
        console().print(render_terminal(loaded))
