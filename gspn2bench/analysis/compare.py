"""Compare two runs row by row: changed latencies, lost latencies, rows without a match."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gspn2bench.analysis.cycles import judge_rows
from gspn2bench.analysis.frame import frame
from gspn2bench.analysis.significance import THRESHOLD, Change, Verdict
from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Row, RunRecord
from gspn2bench.records.store import Run

CASE: Final = ("case", "dtype", "weights", "directions", "chunk")
"""Fields that identify a case within a run."""
KEY: Final = (*CASE, "direction", "rung", "phase", "timing")
"""Fields that two rows must share to be a pair. If both have a latency, also ``l2``."""


@dataclass(frozen=True)
class Pair:
    """A row of BASE and the matching row of NEW, or a row that only one run has.

    Args:
        row: the row of BASE, or of NEW if BASE has none.
        base: why BASE has no latency to compare; "" if it has one, None if it has no row.
        new: why NEW has no latency to compare; "" if it has one, None if it has no row.
        change: from BASE to NEW; None unless both have a latency.
    """

    row: Row
    base: str | None
    new: str | None
    change: Change | None = None

    @property
    def lost(self) -> bool:
        """Whether BASE has a latency and NEW has the row without one; this is a regression."""
        return self.base == "" and bool(self.new)


@dataclass(frozen=True)
class Comparison:
    """All pairs of two runs, in the order of BASE, then the rows that only NEW has."""

    base: RunRecord
    new: RunRecord
    threshold: float
    pairs: tuple[Pair, ...]

    def count(self, verdict: Verdict) -> int:
        """Number of pairs with this verdict."""
        return sum(
            pair.change is not None and pair.change.verdict is verdict for pair in self.pairs
        )

    @property
    def lost(self) -> int:
        """Number of rows whose latency was lost."""
        return sum(pair.lost for pair in self.pairs)

    @property
    def expected(self) -> int:
        """Number of rows of BASE with a latency; NEW should have each of them."""
        return sum(pair.base == "" for pair in self.pairs)

    @property
    def missing(self) -> int:
        """Number of those rows that NEW does not have at all; lost rows are not among them."""
        return sum(pair.base == "" and pair.new is None for pair in self.pairs)

    @property
    def incomplete(self) -> bool:
        """Whether NEW lacks most rows of BASE: it was interrupted, or is of other cases."""
        return 2 * self.missing > self.expected

    @property
    def regressed(self) -> bool:
        """Whether any row is slower or has lost its latency."""
        return bool(self.count(Verdict.SLOWER) or self.lost)


def compare(
    base: Run, new: Run, threshold: float = THRESHOLD, *, ignore_environment: bool = False
) -> Comparison:
    """Pair the rows of two runs and judge each pair.

    Args:
        base: the run to compare with.
        new: the run to judge.
        threshold: the change that matters, as a share of the faster run, between 0 and 1.
        ignore_environment: compare even if the GPUs or drivers differ.

    Raises:
        UsageError: a run is simulated, the GPUs or drivers differ, or no row of BASE has both a
            latency and a matching row in NEW.
    """
    for run in (base, new):
        if run.record.simulated:
            raise UsageError(
                f"compare: {run.record.run_id} is simulated and has no latency to compare"
            )
    if not ignore_environment:
        _refuse_other_machine(base.record, new.record)
    pairs = tuple(_pairs(base, new, threshold))
    if not any(pair.change or pair.lost for pair in pairs):
        raise UsageError(
            f"compare: none of the {len(base.rows)} rows of {base.record.run_id} has a latency and"
            f" a matching row among the {len(new.rows)} rows of {new.record.run_id}"
        )
    return Comparison(base.record, new.record, threshold, pairs)


def parse_threshold(text: str) -> float:
    """Parse a share written as "3%" or "0.03".

    Raises:
        UsageError: it is not a number above 0 and below 100 %.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    # NaN compares false
    if rest or not 0 < share < 1:
        raise UsageError(f"--threshold: {text!r} is not above 0 and below 100 %; write 3% or 0.03")
    return share


def _refuse_other_machine(base: RunRecord, new: RunRecord) -> None:
    for name, before, now in (
        ("GPU", base.machine, new.machine),
        ("driver", base.environment.driver, new.environment.driver),
    ):
        if before != now:
            raise UsageError(
                f"compare: the {name} of BASE is {before or 'unknown'}, that of NEW"
                f" {now or 'unknown'}; --ignore-environment compares them anyway"
            )


def _missing_reasons(run: Run) -> list[tuple[Row, str]]:
    """Each row with the reason why it has no latency to compare; "" if it has one."""
    withheld = frame([run])["withheld"]
    return [
        (row, _missing_reason(row, reason)) for row, reason in zip(run.rows, withheld, strict=True)
    ]


def _missing_reason(row: Row, withheld: str) -> str:
    if row.status != "ok":
        return f"{row.status}: {row.reason or 'no reason recorded'}"
    return withheld or ("" if row.samples_ms else "no samples are recorded")


def _pairs(base: Run, new: Run, threshold: float) -> Iterator[Pair]:
    unmatched: dict[tuple[object, ...], list[tuple[Row, str]]] = defaultdict(list)
    for row, reason in _missing_reasons(new):
        unmatched[_key(row)].append((row, reason))
    for row, reason in _missing_reasons(base):
        candidates = unmatched[_key(row)]
        # l2 of a row without a latency may be wrong: a trial that failed early is recorded as
        # cold even if its case is too small to be made cold
        match = next(
            (other for other in candidates if other[0].l2 == row.l2 or reason or other[1]), None
        )
        if match is None:
            yield Pair(row, reason, None)
            continue
        candidates.remove(match)
        new_row, new_reason = match
        both = not (reason or new_reason)
        change = judge_rows(row, new_row, threshold) if both else None
        yield Pair(row, reason, new_reason, change)
    for rows in unmatched.values():
        yield from (Pair(row, None, reason) for row, reason in rows)


def _key(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, field) for field in KEY)
