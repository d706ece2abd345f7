"""Comparisons of the first run with the others, as rows of a table on the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gspn2bench.analysis.compare import Pair, compare
from gspn2bench.analysis.significance import Verdict
from gspn2bench.errors import UsageError
from gspn2bench.records.store import Run
from gspn2bench.report.comparison import clock_text, interval_text, percent_text, summary_lines
from gspn2bench.report.formatting import number
from gspn2bench.report.tables import Column

CHANGE_COLUMNS: Final = (
    Column("case", "case"),
    Column("rung", "rung"),
    Column("direction", "direction", folded=True),
    Column("L2", "l2", folded=True),
    Column("base, ms", "base_ms", number),
    Column("new, ms", "new_ms", number),
    Column("change, %", "change"),
    Column("99 % interval, %", "interval"),
    Column("verdict", "verdict"),
    Column("reason", "why", optional=True),
)


@dataclass(frozen=True)
class Versus:
    """A run compared with the first: a summary in sentences, and a row per pair."""

    base: str
    new: str
    summary: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = ()


def against_first(runs: Sequence[Run]) -> list[Versus]:
    """The first run compared with each of the others, or the reason why a pair can't be."""
    return [_versus(runs[0], new) for new in runs[1:]]


def _versus(base: Run, new: Run) -> Versus:
    ids = base.record.run_id, new.record.run_id
    try:
        comparison = compare(base, new)
    except UsageError as error:
        return Versus(*ids, (f"Not compared: {str(error).removeprefix('compare: ')}.",))
    rows = tuple(_row(pair) for pair in comparison.pairs)
    return Versus(*ids, tuple(summary_lines(comparison)), rows)


def _row(pair: Pair) -> dict[str, Any]:
    row, change = pair.row, pair.change
    shown = {
        key: getattr(row, key)
        for key in ("case", "rung", "phase", "timing", "dtype", "weights", "direction", "l2")
    }
    if change is None:
        return shown | {"verdict": "LOST" if pair.lost else "not compared", "why": _reason(pair)}
    why = {"why": clock_text(change)} if change.verdict is Verdict.CLOCK else {}
    return (
        shown
        | why
        | {
            "base_ms": change.base_ms,
            "new_ms": change.new_ms,
            "change": percent_text(change.ratio),
            "interval": interval_text(change),
            "verdict": str(change.verdict),
        }
    )


def _reason(pair: Pair) -> str:
    sides = (("base", pair.base), ("new", pair.new))
    return "; ".join(
        f"{side}: {'no such row' if reason is None else reason}"
        for side, reason in sides
        if reason != ""
    )
