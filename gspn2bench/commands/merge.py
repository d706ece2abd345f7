"""``gspn2bench merge``: the runs of the shards of one sweep as one run."""

import sys
from collections import Counter
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, NewRuns, Quiet, RunNames
from gspn2bench.commands.output import echo, print_json


def merge(
    run: RunNames,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Merge although rows are missing; `sweep --resume` completes the run."
        ),
    ] = False,
    results: NewRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Join the runs of `gspn2bench sweep --shard` into one run.

    The runs must have the same scenario, cases, settings, seed, source, GPU model and driver.

    Exit codes: 0 if every row is there. 3 if a shard is missing or not finished; nothing is written
    then, except with --partial.
    """
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.run import merge as runner

    paths = dict.fromkeys(find_run(name, results).resolve() for name in run)
    joined = runner.join([read_run(path) for path in paths])
    for line in joined.missing:
        echo(line, err=True)
    code = 3 if joined.missing else 0
    path = None
    if partial or not joined.missing:
        path = runner.write(joined, results, ["gspn2bench", *sys.argv[1:]])
    elif not quiet:
        echo("nothing is merged; --partial merges the rows that are there", err=True)
    if as_json:
        print_json(
            {
                "run": path.name if path else None,
                "path": str(path) if path else None,
                "counts": Counter(row.status for row in joined.rows),
                "missing": joined.missing,
                "exit_code": code,
            }
        )
    elif path is not None:
        echo(str(path))
    if code:
        raise typer.Exit(code)
