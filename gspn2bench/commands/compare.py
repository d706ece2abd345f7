"""``gspn2bench compare``: what changed between two recorded runs."""

from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, OldRuns


def compare(
    base: Annotated[
        str,
        typer.Argument(metavar="BASE", help="A run's folder, name, prefix of one, or latest."),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Likewise.")],
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
) -> None:
    """Compare two runs row by row: SAME, FASTER, SLOWER or AMBIGUOUS, from their samples.

    Exits with 1 when a row is SLOWER or its latency was lost; if not, and under
    --strict, with 4 when a row is AMBIGUOUS.
    """
    from rich.console import Console

    from gspn2bench.change import Verdict
    from gspn2bench.compare import compare, parse_threshold
    from gspn2bench.report.changes import screen
    from gspn2bench.store import find_run, read_run

    share = parse_threshold(threshold)
    before, after = (read_run(find_run(name, results)) for name in (base, new))
    found = compare(before, after, share, ignore_environment=ignore_environment)
    Console(highlight=False).print(screen(found))
    if found.regressed:
        raise typer.Exit(1)
    if strict and found.count(Verdict.AMBIGUOUS):
        raise typer.Exit(4)
