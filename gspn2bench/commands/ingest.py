"""``gspn2bench ingest``: the figures of a profile, added to a run."""

from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import console, print_json


def ingest(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Of nsys: .sqlite or .nsys-rep; of ncu: .csv (raw) or .ncu-rep."
        ),
    ],
    run: RunName,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add the figures of a profile to the run of the same cases on the same GPU.

    A file that does not match the run is refused, and nothing in the run is ever overwritten.
    """
    from gspn2bench.commands.profile import table
    from gspn2bench.profile.figures import summarise
    from gspn2bench.profile.runner import read
    from gspn2bench.records.store import add_profile, find_run, read_run

    target = read_run(find_run(run, results))
    found = summarise(read(file), file, target)
    added = add_profile(target.path, found)
    if as_json:
        # the timelines are in the file
        figures = found.model_dump(mode="json", exclude={"trials": {"__all__": {"timeline"}}})
        print_json({"run": target.record.run_id, "path": str(added), "profile": figures})
        return
    if not quiet:
        console().print(table(found.trials))
    typer.echo(str(added))
