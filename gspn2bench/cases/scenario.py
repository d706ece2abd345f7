"""Scenarios: TOML files with cases, rungs, and the figures published for them.

A case is one line scan without its rung, which may choose the direction. ``[axes]`` is a cartesian
product; the first axis in the file varies slowest. Each ``[[case]]`` adds a case, or the product of
its own lists.
"""

import itertools
import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from gspn2bench.cases.axes import AXES, NATIVE, Value, check_value, make_axis
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
from gspn2bench.records.schema import L2State, Published, Record, Timing

CaseDirection = Literal[Direction, "native"]

MAX_CASES: Final = 10_000
TIMINGS: Final[tuple[Timing, ...]] = get_args(Timing)
CASE_FIELDS: Final = tuple(name for name in AXES if name != "size")
EXTENTS: Final = frozenset({"height", "width"})


@dataclass(frozen=True)
class Case:
    """One line scan to measure, or one run of a module.

    Args:
        batch: images, N.
        channels: channels, C.
        height: rows, H.
        width: columns, W.
        dtype: storage type of every tensor.
        direction: a scan direction, or "native", the direction that each rung is written for.
        chunk: lines after which h restarts at 0; None means the whole scan length.
        weights: "channel" or "shared".
        phase: "forward" or "backward"; of a module "forward" or "train", which is both.
        directions: 1, or 4: all directions of one input, side by side.
        logits: 1 if w holds logits that the operator normalizes, else 0.
        part: "kernel" for the bare scan, which rungs run, or else how much of a module is run. A
            module uses only batch, channels, height, width, dtype, phase and proxy.
        proxy: C_proxy, the channels that a module scans; None lets the module choose.
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
        """The case as text, without its phase: "N16 C8 1024x1024 float32, shared weights"."""
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
        """The scans that one call runs, if this is the native direction of the rung.

        Raises:
            ValueError: a field is out of bounds; the message names the field and the bound.
        """
        if self.directions == 1:
            return (self.problem(native),)
        return tuple(self.problem(native).with_direction(way) for way in DIRECTIONS)

    def problem(self, native: Direction) -> ScanProblem:
        """The scan that one call runs, if this is the native direction of the rung.

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
            phase=cast(Phase, self.phase),  # ScanProblem refuses "train"
            logits=bool(self.logits),
        )


class Scenario(Record):
    """A sweep, as its TOML file describes it.

    ``axes`` and ``case`` hold fields of a case ("size" stands for height and width). Each must
    contain batch, channels and the size. Lists in ``case`` are multiplied out when it is read.
    ``rungs`` are ids, which the sweep checks.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    """Default: the file name without its suffix. Run folders begin with it."""
    title: Annotated[str, Field(min_length=1)]
    description: str
    source: str
    rungs: Annotated[tuple[str, ...], Field(min_length=1)]
    base: str | None = None
    """The one of ``rungs`` that speed-ups refer to; without it see ``analyze.base_order``."""
    l2: L2State = "cold"
    timing: tuple[Timing, ...] = TIMINGS
    """Latency modes that a sweep measures unless it is given others."""
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

    @field_validator("timing", mode="before")
    @classmethod
    def _read_timing(cls, words: object) -> object:
        choices = ", ".join(TIMINGS)
        if not isinstance(words, list) or not words:
            raise ValueError(f"{words!r} is not a list of {choices}")
        for word in words:
            if word not in TIMINGS:
                raise ValueError(f"{word!r} is not one of {choices}")
            if words.count(word) > 1:
                raise ValueError(f"{word} is given twice")
        return words

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
        expanded: list[object] = []
        for number, table in enumerate(tables, 1):
            if not isinstance(table, dict):
                return tables
            try:
                block = _read_block(table)
            except ValueError as error:
                raise ValueError(f"case {number}: {error}") from error
            check_count(len(expanded) + math.prod(map(len, block.values())))
            expanded.extend(product(block))
        return expanded

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
    """Read a scenario of the package by its name, or a file if the path ends in .toml.

    Raises:
        UsageError: the scenario does not exist, or its file is damaged or breaks a rule; the
            message names the file, the field and the bound.
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


def _shipped() -> dict[str, Traversable]:
    folder = resources.files("gspn2bench.scenarios")
    return {
        file.name.removesuffix(".toml"): file
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


def _read_block(table: dict[str, object]) -> dict[str, tuple[Value, ...]]:
    """The axes of [axes] or of one [[case]]; the value of each is a list or a single value."""
    axes = {
        name: make_axis(name, values if isinstance(values, list) else [values]).values
        for name, values in table.items()
    }
    _check_complete(axes)
    return axes


def _check_complete(fields: Iterable[str]) -> None:
    names = set(fields)
    if "size" in names:
        for name in sorted(EXTENTS & names):
            raise ValueError(f"{name}: already set by size; give size, or height and width")
        names |= EXTENTS
    for name in ("batch", "channels", "height", "width"):
        if name not in names:
            raise ValueError(f"{name} is missing")


def check_count(count: int) -> None:
    """Refuse more than ``MAX_CASES`` cases.

    Raises:
        ValueError: there are more.
    """
    if count > MAX_CASES:
        raise ValueError(f"{count:,} cases, above {MAX_CASES:,}")


def product(axes: dict[str, tuple[Value, ...]]) -> Iterator[dict[str, Value]]:
    """Yield all combinations of the values of axes; the first axis varies slowest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        field = ".".join(str(part) for part in detail["loc"])
        cause = detail.get("ctx", {}).get("error", detail["msg"])
        value = f" (given {detail['input']!r:.60})" if detail["type"] != "value_error" else ""
        lines.append(f"{field}: {cause}{value}" if field else f"{cause}{value}")
    return "; ".join(lines)
