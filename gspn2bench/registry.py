"""Finding a rung: of the ladder, of the peers, of an installed package, or of a user's own file.

A package offers rungs in the entry-point group ``gspn2bench.rungs``; a file ends in .py and defines
``RUNG``. Both keep to ``gspn2bench.kernels.contract`` and go through the same gate.
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

GROUP: Final = "gspn2bench.rungs"
Candidate = Rung | Module
"""What a sweep can run: a rung or a peer runs bare scans, a module the other parts."""


@cache
def find(reference: str) -> Candidate:
    """The rung of a reference: an id, or a path that ends in .py.

    Raises:
        UsageError: no such id, a file or an entry point that can't be loaded, that defines no
            RUNG, or whose RUNG has an id that is not allowed or that another rung already has.
    """
    if reference.endswith(".py"):
        return _from_file(Path(reference))
    known: dict[str, Candidate] = {**LADDER, **SCANS, **MODULES}
    if reference in known:
        return known[reference]
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if reference not in offered:
        raise unknown("rung", reference, [*known, *offered])
    origin = f"entry point {reference}"
    with _loading(origin):
        found = offered[reference].load()
    return _checked(found, origin)


def specs(names: Iterable[str]) -> list[str]:
    """References in the order given, each once, every one of them found.

    Raises:
        UsageError: as ``find``, or two rungs of one id.
    """
    chosen = list(dict.fromkeys(names))
    ids = [find(reference).id for reference in chosen]
    for name in ids:
        if ids.count(name) > 1:
            raise UsageError(f"rung: {name} is the id of two rungs; give one another id")
    return chosen


def base_of(scenario: Scenario, references: Sequence[str]) -> str | None:
    """The id of the base that a scenario names; None where it names none, or it is not run.

    Raises:
        UsageError: as ``find``.
    """
    return find(scenario.base).id if scenario.base in references else None


def rungs_for_part(references: Iterable[str], part: Part) -> list[str]:
    """Those that run a part: a rung or a peer the kernel, a module the parts it is built of."""
    return [each for each in references if part in _parts(find(each))]


def trials(cases: Iterable[Case], references: Sequence[str]) -> list[tuple[Case, str]]:
    """Every case with each of those that run its part, those of a case one after the other."""
    return [
        (case, reference) for case in cases for reference in rungs_for_part(references, case.part)
    ]


def _parts(subject: Candidate) -> Container[Part]:
    return ("kernel",) if isinstance(subject, Rung) else subject.build


def _from_file(path: Path) -> Rung:
    name = f"gspn2bench_rung_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"rung: {path} is no readable file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _loading(str(path)):
        spec.loader.exec_module(module)
    return _checked(getattr(module, "RUNG", None), str(path))


@contextmanager
def _loading(origin: str) -> Iterator[None]:
    """Name the origin of a rung whose code fails."""
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"rung: {origin} can't be loaded: {type(error).__name__}: {error}"
        ) from error


def _checked(found: object, origin: str) -> Rung:
    if not isinstance(found, Rung):
        raise UsageError(f"rung: {origin} defines no RUNG of gspn2bench.kernels.contract.Rung")
    known = ((LADDER, "the ladder has"), (SCANS, "the peers have"), (MODULES, "the modules have"))
    for taken, whose in known:
        if found.id in taken:
            raise UsageError(f"rung: {origin} has the id {found.id}, which {whose} already")
    return found
