"""Base against new, for the page: what ``gspn2bench compare`` says, as rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gspn2bench.analysis.compare import Comparison, Pair, compare
from gspn2bench.errors import UsageError
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import number
from gspn2bench.report.tables import Column
from gspn2bench.report.text.changes import interval_text, percent_text, summary_lines

CHANGE_COLUMNS: Final = (
    Column("case", "case"),
    Column("rung", "rung"),
    Column("scan", "direction", folded=True),
    Column("L2", "l2", folded=True),
    Column("base, ms", "base_ms", number),
    Column("new, ms", "new_ms", number),
    Column("change, %", "change"),
    Column("99 % interval, %", "interval"),
    Column("verdict", "verdict"),
    Column("why", "why", optional=True),
)


@dataclass(frozen=True)
class Versus:
    """One run against the first: the sum in sentences, and a row for each pair."""

    base: str
    new: str
    said: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = ()


def against_first(runs: Sequence[Run]) -> list[Versus]:
    """The first run compared with each of the others; why not, where they can't be compared."""
    return [_versus(runs[0], new) for new in runs[1:]]


def _versus(base: Run, new: Run) -> Versus:
    ids = base.record.run_id, new.record.run_id
    try:
        found: Comparison = compare(base, new)
    except UsageError as error:
        return Versus(*ids, (f"Not compared: {str(error).removeprefix('compare: ')}.",))
    return Versus(*ids, tuple(summary_lines(found)), tuple(_row(pair) for pair in found.pairs))


def _row(pair: Pair) -> dict[str, Any]:
    row, change = pair.row, pair.change
    shown = {
        key: getattr(row, key)
        for key in ("case", "rung", "phase", "timing", "dtype", "weights", "direction", "l2")
    }
    if change is None:
        return shown | {"verdict": "LOST" if pair.lost else "not compared", "why": _why(pair)}
    return shown | {
        "base_ms": change.base_ms,
        "new_ms": change.new_ms,
        "change": percent_text(change.ratio),
        "interval": interval_text(change),
        "verdict": str(change.verdict),
    }


def _why(pair: Pair) -> str:
    sides = (("base", pair.base), ("new", pair.new))
    return "; ".join(
        f"{side}: {'no such row' if lack is None else lack}" for side, lack in sides if lack != ""
    )
