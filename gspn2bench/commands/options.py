"""Arguments and options that several commands take, each declared once."""

from pathlib import Path
from typing import Annotated, Final

import typer

from gspn2bench.commands import completion

_SCENARIO: Final = typer.Argument(
    help="A scenario's name (`gspn2bench list`), or a path to a .toml.",
    autocompletion=completion.scenarios,
)
Scenario = Annotated[str, _SCENARIO]
MaybeScenario = Annotated[str | None, _SCENARIO]
RUN_HELP: Final = "A run's folder, name, prefix of one, or latest."
RunName = Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=completion.runs)]
RunNames = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help=RUN_HELP, autocompletion=completion.runs),
]
Rungs = Annotated[
    str | None,
    typer.Option(
        "--rung",
        help="Rungs, comma-separated: r01,r07; or a file of your own, mine.py.",
        autocompletion=completion.rungs,
    ),
]
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        "-a",
        help="Override an axis: size=[256,512], batch=[1:9:4], channels[pow2]=[0:3]; "
        "ranges include their stop.",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Do what an interrupted run has left; takes its cases and settings.",
        autocompletion=completion.runs,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the inputs.")]
NewRuns = Annotated[Path, typer.Option(help="Folder for the run's folder.")]
"""``--results`` of a command that makes a run."""
OldRuns = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
"""``--results`` of a command that reads one."""
RESULTS: Final = Path("results")
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Only the last line (a path, a verdict) or the names."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
