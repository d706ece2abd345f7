"""What the shell offers at TAB: names only, found without numba, torch or pandas."""

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
    return _begun((name[:-5] for name in files if name.endswith(".toml")), incomplete)


def rungs(incomplete: str) -> list[str]:
    """The last of the comma-separated rungs, peers and modules, those before it kept.

    Modules are named by the scenarios that come with the package; each is run by one.
    """
    files = (file.name for file in resources.files("gspn2bench.kernels").iterdir())
    ids = {name.partition("_")[0] for name in files if name[:1] == "r" and name[1:3].isdigit()}
    peers = (resources.files("gspn2bench") / "baselines" / "scans").iterdir()
    ids |= {file.name[:-3] for file in peers if re.fullmatch(r"[a-z]\w*\.py", file.name)}
    for scenario in scenarios(""):
        text = (resources.files("gspn2bench.scenarios") / f"{scenario}.toml").read_text("utf-8")
        ids.update(tomllib.loads(text).get("rungs", ()))
    return _listed(ids, incomplete)


def timings(incomplete: str) -> list[str]:
    """The last of the comma-separated latency modes, those before it kept."""
    return _listed(Timing, incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs in ``--results``, and "latest"."""
    folder = Path(ctx.params.get("results") or "results")
    return _begun(["latest", *(file.parent.name for file in folder.glob("*/run.json"))], incomplete)


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    """What the last of several comma-separated names may be; none is offered twice."""
    before, comma, begun = incomplete.rpartition(",")
    return [before + comma + name for name in _begun({*names} - {*before.split(",")}, begun)]


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
