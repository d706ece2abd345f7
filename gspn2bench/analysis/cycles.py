"""Latency in clock cycles, which separates a change of the clock from a change of the code."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from gspn2bench.analysis.significance import Change, Verdict, judge_all
from gspn2bench.records.schema import Row


def judge_rows(pairs: Sequence[tuple[Row, Row]], threshold: float) -> list[Change]:
    """Judge the changes between rows of BASE and rows of NEW, all with samples.

    A change of the latency becomes ``Verdict.CLOCK`` if the samples in cycles are SAME. The clock
    then changed by the inverse of the latency.

    Args:
        pairs: a row of BASE and a row of NEW each.
        threshold: as for ``significance.judge``.
    """
    changes = judge_all(((base.samples_ms, new.samples_ms) for base, new in pairs), threshold)
    in_cycles = {}
    for index, (base, new) in enumerate(pairs):
        before, after = kilocycles(base), kilocycles(new)
        if before is None or after is None:
            continue
        changes[index] = replace(
            changes[index],
            clocks_mhz=(median(_clocks_mhz(base)), median(_clocks_mhz(new))),
            cycles_ratio=median(after) / median(before),
        )
        if changes[index].verdict in (Verdict.SLOWER, Verdict.FASTER):
            in_cycles[index] = before, after
    verdicts = judge_all(in_cycles.values(), threshold)
    for index, change in zip(in_cycles, verdicts, strict=True):
        if change.verdict is Verdict.SAME:
            changes[index] = replace(changes[index], verdict=Verdict.CLOCK)
    return changes


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
