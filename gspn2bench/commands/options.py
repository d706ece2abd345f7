"""Arguments and options that several commands take, each declared once."""

from pathlib import Path
from typing import Annotated, Final

import typer

CASES: Final = "What to run"
MEASURE: Final = "How to measure"
PLACE: Final = "Where"

Scenario = Annotated[
    str, typer.Argument(help="A scenario's name (`gspn2bench list`), or a path to a .toml.")
]
Rungs = Annotated[
    str | None,
    typer.Option(
        "--rung",
        help="Rungs, comma-separated: r01,r07; or a file of your own, mine.py.",
        rich_help_panel=CASES,
    ),
]
Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        "-a",
        help="Override an axis: size=[256,512], batch=[1:9:4], channels[pow2]=[0:3]; "
        "ranges include their stop.",
        rich_help_panel=CASES,
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Of the inputs.", rich_help_panel=MEASURE)
]
NewRuns = Annotated[Path, typer.Option(help="Folder for the run's folder.", rich_help_panel=PLACE)]
"""``--results`` of a command that makes a run."""
OldRuns = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
"""``--results`` of a command that reads one."""
RESULTS: Final = Path("results")
