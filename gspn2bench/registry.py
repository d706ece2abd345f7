"""Find rungs by spec: an id, or the path of a Python file.

Ids are those of the ladder, the baselines, the modules, and the entry points that installed
packages declare in the group ``gspn2bench.rungs``. A file ends in .py and defines ``RUNG``. Rungs
of packages and files follow ``gspn2bench.kernels.contract`` and pass the same gate.
"""

import importlib.util
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from gspn2bench.baselines.modules import MODULES, Module
from gspn2bench.baselines.scans import SCANS
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import UsageError, unknown
from gspn2bench.kernels.contract import Rung
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.problem import Part

ENTRY_POINTS: Final = "gspn2bench.rungs"
"""The entry-point group of rungs in installed packages."""
Candidate = Rung | Module
"""Anything that a sweep can run: a rung for bare scans, or a module for the other parts."""


@cache
def find(spec: str) -> Candidate:
    """The rung or module of a spec: an id, or a path that ends in .py.

    Raises:
        UsageError: the id is unknown, the file or entry point cannot be loaded or does not define
            RUNG, or the id of its RUNG is not allowed or already taken.
    """
    if spec.endswith(".py"):
        return _from_file(Path(spec))
    known: dict[str, Candidate] = {**LADDER, **SCANS, **MODULES}
    if spec in known:
        return known[spec]
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if spec not in installed:
        raise unknown("rung", spec, [*known, *installed])
    origin = f"entry point {spec}"
    with _loading(origin):
        rung = installed[spec].load()
    return _checked(rung, origin)


def specs(names: Iterable[str]) -> list[str]:
    """Check specs: their rungs exist and have different ids.

    Args:
        names: specs, perhaps with duplicates.

    Returns:
        The specs in the same order, without duplicates.

    Raises:
        UsageError: as for ``find``, or two rungs have the same id.
    """
    unique = list(dict.fromkeys(names))
    ids = [find(spec).id for spec in unique]
    for rung in ids:
        if ids.count(rung) > 1:
            raise UsageError(f"rung: two rungs have the id {rung}; change one of them")
    return unique


def base_of(scenario: Scenario, rungs: Sequence[str]) -> str | None:
    """The id of the base that a scenario names.

    Args:
        scenario: its ``base`` is a spec or None.
        rungs: the specs that are run.

    Returns:
        None if the scenario names no base, or if the base is not run.

    Raises:
        UsageError: as for ``find``.
    """
    return find(scenario.base).id if scenario.base in rungs else None


def rungs_for_part(rungs: Iterable[str], part: Part) -> list[str]:
    """The specs that can run a part: rungs run "kernel", modules run the parts they build."""
    return [spec for spec in rungs if part in _parts(find(spec))]


def trials(cases: Iterable[Case], rungs: Sequence[str]) -> list[tuple[Case, str]]:
    """Every case with each spec that can run its part, case by case."""
    return [(case, spec) for case in cases for spec in rungs_for_part(rungs, case.part)]


def _parts(candidate: Candidate) -> Container[Part]:
    return ("kernel",) if isinstance(candidate, Rung) else candidate.build


def _from_file(path: Path) -> Rung:
    name = f"gspn2bench_rung_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"rung: {path} is not a readable file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _loading(str(path)):
        spec.loader.exec_module(module)
    return _checked(getattr(module, "RUNG", None), str(path))


@contextmanager
def _loading(origin: str) -> Iterator[None]:
    """Convert errors of the code of a rung to a ``UsageError`` that names its origin."""
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"rung: {origin} can't be loaded: {type(error).__name__}: {error}"
        ) from error


def _checked(rung: object, origin: str) -> Rung:
    if not isinstance(rung, Rung):
        raise UsageError(f"rung: {origin} does not define RUNG, a gspn2bench.kernels.contract.Rung")
    for known, owner in ((LADDER, "the ladder"), (SCANS, "a baseline"), (MODULES, "a module")):
        if rung.id in known:
            raise UsageError(f"rung: {origin} has the id {rung.id}, already taken by {owner}")
    return rung
