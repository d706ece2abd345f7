"""Latency in clock cycles, which separates a change of the clock from a change of the code."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from gspn2bench.analysis.significance import Change, Verdict, judge
from gspn2bench.records.schema import Row


def judge_rows(base: Row, new: Row, threshold: float) -> Change:
    """Judge the change between two rows with samples.

    A change of the latency becomes ``Verdict.CLOCK`` if the samples in cycles are SAME. The clock
    then changed by the inverse of the latency.

    Args:
        base: the row of BASE.
        new: the row of NEW.
        threshold: as for ``significance.judge``.
    """
    change = judge(base.samples_ms, new.samples_ms, threshold)
    before, after = kilocycles(base), kilocycles(new)
    if before is None or after is None:
        return change
    change = replace(
        change,
        clocks_mhz=(median(_clocks_mhz(base)), median(_clocks_mhz(new))),
        cycles_ratio=median(after) / median(before),
    )
    changed = change.verdict in (Verdict.SLOWER, Verdict.FASTER)
    if changed and judge(before, after, threshold).verdict is Verdict.SAME:
        return replace(change, verdict=Verdict.CLOCK)
    return change


def kilocycles(row: Row) -> tuple[float, ...] | None:
    """The samples of a row in thousands of cycles; None if the clock is unknown.

    Each sample is multiplied by the clock of its block. Older rows have one clock for all samples.
    """
    clocks_mhz = _clocks_mhz(row)
    if len(clocks_mhz) != len(row.samples_ms):
        return None
    return tuple(ms * mhz for ms, mhz in zip(row.samples_ms, clocks_mhz, strict=True))


def _clocks_mhz(row: Row) -> Sequence[float]:
    """The clock at each sample; empty if it is unknown."""
    by_block = zip(row.block_samples, row.block_clocks_mhz, strict=False)
    clocks_mhz = [mhz for size, mhz in by_block for _ in range(size) if mhz]
    if len(clocks_mhz) == len(row.samples_ms):
        return clocks_mhz
    return [row.clock_mhz] * len(row.samples_ms) if row.clock_mhz else []
