"""Arguments and options that several commands take, each declared once."""

from pathlib import Path
from typing import Annotated, Final

import typer

from gspn2bench.commands import completion

_SCENARIO: Final = typer.Argument(
    metavar="SCENARIO",
    help="Name of a scenario (see `gspn2bench list`), or path of a .toml file.",
    autocompletion=completion.scenarios,
)
Scenario = Annotated[str, _SCENARIO]
MaybeScenario = Annotated[str | None, _SCENARIO]
_RUN: Final = typer.Argument(
    metavar="RUN",
    help="Folder, name, or unique prefix of the name of a run; or latest.",
    autocompletion=completion.runs,
)
RunName = Annotated[str, _RUN]
RunNames = Annotated[list[str], _RUN]
Rungs = Annotated[
    str | None,
    typer.Option(
        "--rung",
        metavar="RUNG,...",
        help="Rungs to run, such as r01,r07; a .py file is your own kernel.",
        show_default="those of the scenario",
        autocompletion=completion.rungs,
    ),
]
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        "-a",
        metavar="NAME=VALUES",
        help="Replace the values of an axis: size=[256,512], batch=[1:9:4] (1, 5, 9), "
        "channels[pow2]=[0:3] (1, 2, 4, 8). Repeatable.",
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Resume an interrupted run with its cases and settings.",
        autocompletion=completion.runs,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed for the random inputs.")]
NewRuns = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder in which the run's folder is created.")
]
"""``--results`` of a command that records a run."""
OldRuns = Annotated[Path, typer.Option(metavar="DIR", help="Folder that contains the runs.")]
"""``--results`` of a command that reads a run."""
RESULTS: Final = Path("results")
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result: a path, a verdict or names.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
