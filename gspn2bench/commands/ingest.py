"""``gspn2bench ingest``: add the results of a profile to a run."""

from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunName
from gspn2bench.commands.output import console, echo, print_json


def ingest(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A profile: .nsys-rep or .sqlite of nsys, .ncu-rep or .csv (raw page) of ncu.",
        ),
    ],
    run: RunName,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add the results of a profile to a run.

    The profile must be of the same cases on the same GPU as the run; any other file is refused.
    Nothing in the run is overwritten.
    """
    from gspn2bench.commands.profile import table
    from gspn2bench.profile.figures import summarise
    from gspn2bench.profile.runner import read
    from gspn2bench.records.store import add_profile, find_run, read_run

    target = read_run(find_run(run, results))
    profile = summarise(read(file), file, target)
    added = add_profile(target.path, profile)
    if as_json:
        # the timelines are in the file
        figures = profile.model_dump(mode="json", exclude={"trials": {"__all__": {"timeline"}}})
        print_json({"run": target.record.run_id, "path": str(added), "profile": figures})
        return
    if not quiet:
        console().print(table(profile.trials))
    echo(str(added))
