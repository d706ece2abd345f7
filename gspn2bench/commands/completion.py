"""Names that the shell offers at TAB, found without importing numba, torch or pandas."""

import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import typer

from gspn2bench.commands.choices import Timing


def scenarios(incomplete: str) -> list[str]:
    """The scenarios that come with the package."""
    files = (file.name for file in resources.files("gspn2bench.scenarios").iterdir())
    return _matching((name[:-5] for name in files if name.endswith(".toml")), incomplete)


def rungs(incomplete: str) -> list[str]:
    """Rungs, baselines and modules, for the last name of a comma-separated list.

    Modules are read from the scenarios of the package; each is in one of them.
    """
    files = (file.name for file in resources.files("gspn2bench.kernels").iterdir())
    ids = {name.partition("_")[0] for name in files if name[:1] == "r" and name[1:3].isdigit()}
    scans = (resources.files("gspn2bench") / "baselines" / "scans").iterdir()
    ids |= {file.name[:-3] for file in scans if re.fullmatch(r"[a-z]\w*\.py", file.name)}
    for scenario in scenarios(""):
        text = (resources.files("gspn2bench.scenarios") / f"{scenario}.toml").read_text("utf-8")
        ids.update(tomllib.loads(text).get("rungs", ()))
    return _listed(ids, incomplete)


def timings(incomplete: str) -> list[str]:
    """Latency modes, for the last word of a comma-separated list."""
    return _listed(Timing, incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs in the folder of ``--results``, and "latest"."""
    folder = Path(ctx.params.get("results") or "results")
    names = ["latest", *(file.parent.name for file in folder.glob("*/run.json"))]
    return _matching(names, incomplete)


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    """Completions of the last name of a comma-separated list; no name is offered twice."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _matching({*names} - {*before.split(",")}, last)]


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
