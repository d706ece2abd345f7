"""Two runs, row by row: what changed, what was lost, what can't be compared."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gspn2bench.analysis.frame import frame, machine
from gspn2bench.analysis.significance import THRESHOLD, Change, Verdict, judge
from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Row, RunRecord
from gspn2bench.records.store import Run

CASE: Final = ("case", "dtype", "weights", "directions", "chunk")
"""Fields that tell the cases of a run apart."""
KEY: Final = (*CASE, "direction", "rung", "phase", "timing")
"""Fields that two rows must share to be a pair, and ``l2`` where both have a latency."""


@dataclass(frozen=True)
class Pair:
    """A row of BASE and its like in NEW, or a row that only one run has.

    Args:
        row: the row in BASE, or in NEW where BASE has none.
        base: why BASE has no latency to compare, "" where it has one, None where it has no row.
        new: likewise of NEW.
        change: from BASE to NEW; None unless both have a latency.
    """

    row: Row
    base: str | None
    new: str | None
    change: Change | None = None

    @property
    def lost(self) -> bool:
        """BASE has a latency; NEW has the row and no latency: a regression."""
        return self.base == "" and bool(self.new)


@dataclass(frozen=True)
class Comparison:
    """All pairs of two runs, in BASE's order, then what only NEW has."""

    base: RunRecord
    new: RunRecord
    threshold: float
    pairs: tuple[Pair, ...]

    def count(self, verdict: Verdict) -> int:
        """Pairs with this verdict."""
        return sum(
            pair.change is not None and pair.change.verdict is verdict for pair in self.pairs
        )

    @property
    def lost(self) -> int:
        """Rows whose latency was lost."""
        return sum(pair.lost for pair in self.pairs)

    @property
    def regressed(self) -> bool:
        """Something is slower, or was lost."""
        return bool(self.count(Verdict.SLOWER) or self.lost)


def compare(
    base: Run, new: Run, threshold: float = THRESHOLD, *, ignore_environment: bool = False
) -> Comparison:
    """Pair the rows of two runs and judge each pair.

    Args:
        base: the run to compare with.
        new: the run in question.
        threshold: the change that matters, as a share of the faster run, between 0 and 1.
        ignore_environment: compare runs of different GPUs or drivers all the same.

    Raises:
        UsageError: a run is simulated, the GPUs or drivers differ, or no row is in both runs with
            a latency in BASE at least.
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
            f" its like among the {len(new.rows)} rows of {new.record.run_id}"
        )
    return Comparison(base.record, new.record, threshold, pairs)


def parse_threshold(text: str) -> float:
    """A share written "3%" or "0.03".

    Raises:
        UsageError: not a number, or not above 0 and below 100 %.
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


def driver(record: RunRecord) -> str | None:
    """The version of the NVIDIA driver, or None where the run does not say."""
    gpu = record.environment.get("gpu")
    found = gpu.get("driver") if isinstance(gpu, dict) else None
    return found if isinstance(found, str) else None


def _refuse_other_machine(base: RunRecord, new: RunRecord) -> None:
    for what, ask in (("GPU", machine), ("driver", driver)):
        before, now = ask(base), ask(new)
        if before != now:
            raise UsageError(
                f"compare: the {what} of BASE is {before or 'unknown'}, that of NEW"
                f" {now or 'unknown'}; --ignore-environment compares them all the same"
            )


def _lacks(run: Run) -> list[tuple[Row, str]]:
    """Each row, with why it has no latency to compare, or ""."""
    withheld = frame([run])["withheld"]
    return [(row, _lack(row, why)) for row, why in zip(run.rows, withheld, strict=True)]


def _lack(row: Row, withheld: str) -> str:
    if row.status != "ok":
        return f"{row.status}: {row.reason or 'no reason recorded'}"
    return withheld or ("" if row.samples_ms else "no samples are recorded")


def _pairs(base: Run, new: Run, threshold: float) -> Iterator[Pair]:
    waiting: dict[tuple[object, ...], list[tuple[Row, str]]] = defaultdict(list)
    for row, lack in _lacks(new):
        waiting[_key(row)].append((row, lack))
    for row, lack in _lacks(base):
        like = waiting[_key(row)]
        # a trial that ended early may not know yet that its case can't be made cold
        match = next((o for o in like if o[0].l2 == row.l2 or lack or o[1]), None)
        if match is None:
            yield Pair(row, lack, None)
            continue
        like.remove(match)
        both = not (lack or match[1])
        change = judge(row.samples_ms, match[0].samples_ms, threshold) if both else None
        yield Pair(row, lack, match[1], change)
    for rows in waiting.values():
        yield from (Pair(row, None, lack) for row, lack in rows)


def _key(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, field) for field in KEY)
