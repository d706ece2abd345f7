"""``gspn2bench show``: a recorded run in the terminal."""

from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, OldRuns


def show(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's folder, name, prefix of one, or latest."),
    ],
    results: OldRuns = RESULTS,
) -> None:
    """Print a run: the verdict, then a table for each case."""
    from rich.console import Console

    from gspn2bench.report.terminal import screen
    from gspn2bench.store import find_run, read_run

    Console(highlight=False).print(screen(read_run(find_run(run, results))))
