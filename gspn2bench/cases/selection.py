"""The cases of a sweep: those of a scenario, with the overrides of the command line."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gspn2bench.cases.axes import Axis, Value
from gspn2bench.cases.scenario import EXTENTS, Case, Scenario, check_count, product
from gspn2bench.errors import UsageError
from gspn2bench.problem import PHASES, Direction

Values = dict[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Selection:
    """The cases to run, and those that the overrides left out.

    Args:
        cases: in order, without repeats.
        left_out: cases to which an override does not apply, each with the reason.
    """

    cases: tuple[Case, ...]
    left_out: tuple[tuple[Case, str], ...] = ()

    @property
    def notes(self) -> list[str]:
        """One line per reason for which cases are left out, with the first of these cases."""
        by_reason: dict[str, list[Case]] = {}
        for case, reason in self.left_out:
            by_reason.setdefault(reason, []).append(case)
        return [
            f"left out: {of_reason[0].label}"
            + (f", and {len(of_reason) - 1} more" if len(of_reason) > 1 else "")
            + f": {reason}"
            for reason, of_reason in by_reason.items()
        ]


@dataclass(frozen=True)
class _Conflict:
    """A field that does not apply to the part of its case."""

    field: str
    reason: str
    advice: str = ""

    @property
    def message(self) -> str:
        return f"{self.reason}: {self.advice}" if self.advice else self.reason


def cases(scenario: Scenario, overrides: Sequence[Axis] = ()) -> list[Case]:
    """The cases of ``select``, for callers that do not show which cases are left out."""
    return list(select(scenario, overrides).cases)


def select(scenario: Scenario, overrides: Sequence[Axis] = ()) -> Selection:
    """The cases of a scenario, in order and without repeats.

    An override replaces its field in every case. "size" replaces height and width; height or width
    replaces one half of a size. Some fields apply only to bare scans, others only to modules. A
    case that an override cannot apply to is left out, unless no case is left for these values.

    Raises:
        UsageError: overrides contradict each other, there are more than 10,000 cases, a case is
            impossible, or values of overrides apply to no case; the message names the scenario,
            the case and the field.
    """
    replaced = _overrides(overrides)
    kept: dict[Case, None] = {}
    left_out: dict[Case, tuple[tuple[Value, ...], _Conflict]] = {}
    applied = set()
    for table in _tables(scenario, replaced):
        case = _make_case(table, replaced)
        values = tuple(table[name] for name in replaced)
        conflict = _conflict(case)
        if conflict is not None and {conflict.field, "part"} & replaced.keys():
            left_out.setdefault(case, (values, conflict))
            continue
        if case not in kept:
            _check_case(scenario, case, conflict)
        kept[case] = None
        applied.add(values)
    for case, (values, conflict) in left_out.items():
        if values not in applied:
            raise _impossible(scenario, case, conflict.message)
    return Selection(
        tuple(kept), tuple((case, conflict.reason) for case, (_, conflict) in left_out.items())
    )


def _tables(scenario: Scenario, replaced: Values) -> Iterable[dict[str, Value]]:
    """The fields of every case, with overrides.

    Raises:
        UsageError: there are too many.
    """
    axes = dict(scenario.axes)
    for name in axes:
        if name in EXTENTS and "size" in replaced:
            axes[name] = (1,)  # overwritten below; the axis keeps its rank in the product
    axes |= replaced
    own = math.prod(len(values) for values in axes.values()) if scenario.axes else 0
    changes = math.prod(len(values) for values in replaced.values())
    try:
        check_count(own + len(scenario.case) * changes)
    except ValueError as error:
        raise UsageError(f"scenario {scenario.name}: {error}") from error
    return itertools.chain(
        product(axes) if scenario.axes else (),
        (table | change for table in scenario.case for change in product(replaced)),
    )


def _overrides(axes: Sequence[Axis]) -> Values:
    replaced: Values = {}
    for axis in axes:
        if axis.name in replaced:
            raise UsageError(f"--axis: {axis.name} is given twice; write one list")
        replaced[axis.name] = axis.values
    if "size" in replaced and (both := sorted(EXTENTS & replaced.keys())):
        raise UsageError(f"--axis: {both[0]} is already set by size; give one of them")
    return replaced


def _make_case(table: dict[str, Value], replaced: Values) -> Case:
    fields: dict[str, Any] = dict(table)
    if "size" in fields:
        size = fields.pop("size")
        extents = {"height": size, "width": size}
        # an override wins: the size, or one half of it
        fields = fields | extents if "size" in replaced else extents | fields
    return Case(**fields)


def _check_case(scenario: Scenario, case: Case, conflict: _Conflict | None) -> None:
    if conflict is not None:
        raise _impossible(scenario, case, conflict.message)
    if case.part != "kernel":
        return
    # the native direction is not known yet, so the case must be possible along either axis
    directions: tuple[Direction, ...] = ("down", "right")
    for direction in directions:
        try:
            case.problem(direction)
        except ValueError as error:
            raise _impossible(scenario, case, str(error)) from error


def _conflict(case: Case) -> _Conflict | None:
    """The first field that does not apply to the part; None if all apply."""
    if case.part == "kernel":
        if case.proxy is not None:
            advice = "set `part` or remove `proxy`"
            return _Conflict("proxy", "proxy applies only to modules", advice)
        if case.phase not in PHASES:
            return _Conflict("phase", f"phase: {case.phase!r} is not one of {', '.join(PHASES)}")
        return None
    if case.phase == "backward":
        return _Conflict("phase", "phase: a module runs forward, or train (forward and backward)")
    scan = Case(1, 1, 1, 1)
    for name in ("direction", "chunk", "weights", "directions", "logits"):
        if getattr(case, name) != getattr(scan, name):
            advice = f"remove `{name}`, or `part` ({case.part})"
            return _Conflict(name, f"{name} applies only to bare scans", advice)
    return None


def _impossible(scenario: Scenario, case: Case, message: str) -> UsageError:
    return UsageError(f"scenario {scenario.name}, case {case.label}: {message}")
