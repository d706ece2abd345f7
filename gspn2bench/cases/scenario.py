"""Scenarios: TOML files of the cases to run, the rungs, and the figures published for them.

A case is one line scan without its rung: the rung may choose the direction. ``[axes]`` is a
cartesian product, the file's first axis varying slowest; each ``[[case]]`` adds a case, or the
product of its own lists.
"""

import itertools
import math
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from gspn2bench.cases.axes import AXES, NATIVE, Axis, Value, check_value, make_axis
from gspn2bench.errors import UsageError, unknown
from gspn2bench.problem import (
    DIRECTIONS,
    CasePhase,
    Direction,
    DType,
    Part,
    Phase,
    ScanProblem,
    Weights,
)
from gspn2bench.records.schema import L2State, Published, Record

CaseDirection = Literal[Direction, "native"]

MAX_CASES: Final = 10_000
CASE_FIELDS: Final = tuple(name for name in AXES if name != "size")
_EXTENTS: Final = frozenset({"height", "width"})


@dataclass(frozen=True)
class Case:
    """One line scan to measure, or one run of a module.

    Args:
        batch: images, N.
        channels: channels, C.
        height: rows, H.
        width: columns, W.
        dtype: storage type of every tensor.
        direction: a scan direction, or "native": each rung scans the way it was written for.
        chunk: lines after which h restarts at 0; None is the whole scan length.
        weights: "channel" or "shared".
        phase: "forward" or "backward"; of a module "forward" or "train", which is both.
        directions: 1, or 4: every direction of one input, side by side.
        logits: 1 where w holds logits that the operator normalizes, else 0.
        part: "kernel", the bare scan, which rungs run, or how much of a module is run; a module
            takes batch, channels, height, width, dtype, phase and proxy alone.
        proxy: C_proxy, the channels that a module scans; None is the module's own choice.
    """

    batch: int
    channels: int
    height: int
    width: int
    dtype: DType = "float32"
    direction: CaseDirection = "native"
    chunk: int | None = None
    weights: Weights = "channel"
    phase: CasePhase = "forward"
    directions: int = 1
    logits: int = 0
    part: Part = "kernel"
    proxy: int | None = None

    @property
    def label(self) -> str:
        """The case in words, without its phase: "N16 C8 1024x1024 float32, shared weights"."""
        extras = []
        if self.weights == "shared":
            extras.append("shared weights")
        if self.logits:
            extras.append("logits")
        if self.chunk is not None:
            extras.append(f"chunk {self.chunk}")
        if self.directions > 1:
            extras.append(f"{self.directions} directions")
        elif self.direction != NATIVE:
            extras.append(self.direction)
        size = f"N{self.batch} C{self.channels} {self.height}x{self.width} {self.dtype}"
        if self.part != "kernel":
            extras.append(self.part)
        if self.proxy is not None:
            extras.append(f"C_proxy {self.proxy}")
        return ", ".join([size, *extras])

    def problems(self, native: Direction) -> tuple[ScanProblem, ...]:
        """The scans that one call of a rung of this native direction runs.

        Raises:
            ValueError: a field is out of bounds; the message names the field and the bound.
        """
        if self.directions == 1:
            return (self.problem(native),)
        return tuple(self.problem(native).with_direction(way) for way in DIRECTIONS)

    def problem(self, native: Direction) -> ScanProblem:
        """The scan that a rung of this native direction runs.

        Raises:
            ValueError: a field is out of bounds; the message names the field and the bound.
        """
        return ScanProblem(
            batch=self.batch,
            channels=self.channels,
            height=self.height,
            width=self.width,
            dtype=self.dtype,
            direction=native if self.direction == "native" else self.direction,
            chunk=self.chunk,
            weights=self.weights,
            phase=cast(Phase, self.phase),  # another is refused
            logits=bool(self.logits),
        )


class Scenario(Record):
    """A sweep, as its TOML file states it.

    ``axes`` and ``case`` hold fields of a case ("size" stands for height and width); each must
    give batch, channels and the size. ``case`` is read with its lists multiplied out. ``rungs``
    are ids, checked by the sweep.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """By default the file's name without its ending; begins the names of run folders."""
    title: Annotated[str, Field(min_length=1)]
    description: str
    source: str
    rungs: Annotated[tuple[str, ...], Field(min_length=1)]
    base: str | None = None
    """The one of ``rungs`` that speed-ups refer to; without it see ``analyze.base_order``."""
    l2: L2State = "cold"
    axes: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    case: tuple[dict[str, Value], ...] = ()
    published: tuple[Published, ...] = ()

    @field_validator("rungs")
    @classmethod
    def _rungs_once(cls, rungs: tuple[str, ...]) -> tuple[str, ...]:
        for rung in rungs:
            if rungs.count(rung) > 1:
                raise ValueError(f"{rung} is given twice")
        return rungs

    @field_validator("base")
    @classmethod
    def _base_is_a_rung(cls, base: str | None, info: ValidationInfo) -> str | None:
        rungs = info.data.get("rungs")  # absent where they are refused themselves
        if base is not None and rungs is not None and base not in rungs:
            raise ValueError(f"{base!r} is not one of the scenario's rungs: {', '.join(rungs)}")
        return base

    @field_validator("axes", mode="before")
    @classmethod
    def _read_axes(cls, table: object) -> object:
        if not isinstance(table, dict):
            return table
        return _read_block(table) if table else {}

    @field_validator("case", mode="before")
    @classmethod
    def _read_cases(cls, tables: object) -> object:
        if not isinstance(tables, list):
            return tables
        found: list[object] = []
        for number, table in enumerate(tables, 1):
            if not isinstance(table, dict):
                return tables
            try:
                block = _read_block(table)
            except ValueError as error:
                raise ValueError(f"case {number}: {error}") from error
            _check_count(len(found) + math.prod(map(len, block.values())))
            found.extend(_product(block))
        return found

    @field_validator("published")
    @classmethod
    def _where_is_known(cls, published: tuple[Published, ...]) -> tuple[Published, ...]:
        for figure in published:
            for name, value in figure.where.items():
                if name not in CASE_FIELDS:
                    raise unknown("case field", name, CASE_FIELDS)
                check_value(name, value)
        return published

    @model_validator(mode="after")
    def _has_cases(self) -> Self:
        if not self.axes and not self.case:
            raise ValueError("there are no cases: give [axes] or [[case]]")
        return self


def names() -> list[str]:
    """The scenarios that come with the package, sorted."""
    return sorted(_shipped())


def load(name_or_path: str) -> Scenario:
    """Read a scenario of the package by its name, or a file whose path ends in .toml.

    Raises:
        UsageError: no such scenario, or a file that is damaged or breaks a rule; the message names
            the file, the field and the bound.
    """
    file: Traversable
    if name_or_path.endswith(".toml"):
        file = Path(name_or_path)
        stem, shown = file.stem, name_or_path
    else:
        shipped = _shipped()
        if name_or_path not in shipped:
            raise unknown("scenario", name_or_path, shipped)
        file = shipped[name_or_path]
        stem, shown = name_or_path, file.name
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"scenario: {shown} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"scenario: {shown} is not TOML: {error}") from error
    try:
        return Scenario.model_validate({"name": stem, **table})
    except ValidationError as error:
        raise UsageError(f"scenario: {shown}: {_explain(error)}") from error


def cases(scenario: Scenario, overrides: Sequence[Axis] = ()) -> list[Case]:
    """The cases of a scenario, each once, in order.

    An override takes the place of its field in every case. "size" replaces height and width;
    height or width replaces that half of a size.

    Raises:
        UsageError: overrides that contradict each other, more than 10,000 cases, or a case that
            cannot be; the message names the scenario, the case and the field.
    """
    given = _overrides(overrides)
    axes = dict(scenario.axes)
    for name in axes:
        if name in _EXTENTS and "size" in given:
            axes[name] = (1,)  # a place to be overwritten: an axis keeps its rank in the product
    axes |= given
    own = math.prod(len(values) for values in axes.values()) if scenario.axes else 0
    changes = math.prod(len(values) for values in given.values())
    try:
        _check_count(own + len(scenario.case) * changes)
    except ValueError as error:
        raise UsageError(f"scenario {scenario.name}: {error}") from error

    tables: Iterable[dict[str, Value]] = itertools.chain(
        _product(axes) if scenario.axes else (),
        (table | change for table in scenario.case for change in _product(given)),
    )
    found = dict.fromkeys(_make_case(table, given) for table in tables)
    for case in found:
        _check_case(scenario, case)
    return list(found)


def _shipped() -> dict[str, Traversable]:
    folder = resources.files("gspn2bench.scenarios")
    return {
        file.name.removesuffix(".toml"): file
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


def _read_block(table: dict[str, object]) -> dict[str, tuple[Value, ...]]:
    """The axes of [axes] or of one [[case]]: each a list, or one value."""
    axes = {
        name: make_axis(name, values if isinstance(values, list) else [values]).values
        for name, values in table.items()
    }
    _check_complete(axes)
    return axes


def _check_complete(fields: Iterable[str]) -> None:
    given = set(fields)
    if "size" in given:
        for name in sorted(_EXTENTS & given):
            raise ValueError(f"{name}: already set by size; give size, or height and width")
        given |= _EXTENTS
    for name in ("batch", "channels", "height", "width"):
        if name not in given:
            raise ValueError(f"{name} is missing")


def _check_count(count: int) -> None:
    if count > MAX_CASES:
        raise ValueError(f"{count:,} cases, above {MAX_CASES:,}")


def _overrides(axes: Sequence[Axis]) -> dict[str, tuple[Value, ...]]:
    given: dict[str, tuple[Value, ...]] = {}
    for axis in axes:
        if axis.name in given:
            raise UsageError(f"axis: {axis.name} is given twice; write one list")
        given[axis.name] = axis.values
    if "size" in given and (both := sorted(_EXTENTS & given.keys())):
        raise UsageError(f"axis: {both[0]} is already set by size; give one of them")
    return given


def _product(axes: dict[str, tuple[Value, ...]]) -> Iterator[dict[str, Value]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _make_case(table: dict[str, Value], given: dict[str, tuple[Value, ...]]) -> Case:
    fields: dict[str, Any] = dict(table)
    if "size" in fields:
        size = fields.pop("size")
        extents = {"height": size, "width": size}
        # the later word wins: a size of the command line, or half of one
        fields = fields | extents if "size" in given else extents | fields
    return Case(**fields)


def _check_case(scenario: Scenario, case: Case) -> None:
    try:
        _check_part(case)
    except ValueError as error:
        raise UsageError(f"scenario {scenario.name}, case {case.label}: {error}") from error
    if case.part != "kernel":
        return
    # a native direction is not known yet, so that the case must be able to run both ways
    ways: tuple[Direction, ...] = ("down", "right")
    for way in ways:
        try:
            case.problem(way)
        except ValueError as error:
            raise UsageError(f"scenario {scenario.name}, case {case.label}: {error}") from error


def _check_part(case: Case) -> None:
    """Hold a case to the fields that its part has."""
    if case.part == "kernel":
        if case.proxy is not None:
            raise ValueError("proxy: it is of modules; give part, or leave it out")
        return
    if case.phase == "backward":
        raise ValueError("phase: a module runs forward, or train, which is forward and backward")
    scan = Case(1, 1, 1, 1)
    for name in ("direction", "chunk", "weights", "directions", "logits"):
        if getattr(case, name) != getattr(scan, name):
            raise ValueError(f"{name}: it is of bare scans; part {case.part} has none")


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        field = ".".join(str(part) for part in detail["loc"])
        cause = detail.get("ctx", {}).get("error", detail["msg"])
        given = f" (given {detail['input']!r:.60})" if detail["type"] != "value_error" else ""
        lines.append(f"{field}: {cause}{given}" if field else f"{cause}{given}")
    return "; ".join(lines)
