"""The warm-up, on recorded and on synthetic series of samples, with a pretended clock."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median

import pytest

from gspn2bench.measure import timing, warm_up
from gspn2bench.measure.warm_up import FIRST, GROUP, LATER, ONE_SAMPLE, Limits
from gspn2bench.records.schema import Row
from gspn2bench.records.store import read_run
from gspn2bench.system import executables

from ..helpers.calibration import ROOT

SLOW_ROW = "tableS4-20261123T224651Z-23e0ce"
"""A run on an H200. The first 46 samples of its row of r07 are slower than the other 54."""
SLOW_SAMPLES = 46
REPLAY_MS = 1.25 * timing.MIN_REPLAY_MS
"""Usual length of a graph replay."""


class Source:
    """Samples of a series, each of which takes a given time on the pretended clock."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        series: Iterable[float],
        sample_ms: Callable[[float], float] = lambda value: value,
    ) -> None:
        self.series: Iterator[float] = iter(series)
        self.sample_ms = sample_ms
        self.now_ms = 0.0
        self.taken: list[float] = []
        monkeypatch.setattr(warm_up.time, "perf_counter", lambda: self.now_ms / 1e3)

    def __call__(self) -> float:
        self.taken.append(next(self.series))
        self.now_ms += self.sample_ms(self.taken[-1])
        return self.taken[-1]


def slow_row() -> Row:
    (row,) = (row for row in read_run(ROOT / "results" / SLOW_ROW).rows if row.rung == "r07")
    return row


def test_the_recorded_slow_start_is_over_after_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = slow_row().samples_ms
    assert median(samples[:SLOW_SAMPLES]) > 1.13 * median(samples[SLOW_SAMPLES:])
    source = Source(monkeypatch, samples, lambda _: REPLAY_MS)
    taken = warm_up.warm_up(source, FIRST)
    assert taken == 80  # 0.5 s; docs/measured/calibration.md
    rest = list(source.series)
    assert median(rest[:GROUP]) == pytest.approx(median(rest[GROUP:]), rel=0.01)


def test_agreement_alone_would_end_the_warm_up_within_the_recorded_slow_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This is why the first warm-up has a least time."""
    source = Source(monkeypatch, slow_row().samples_ms, lambda _: REPLAY_MS)
    assert warm_up.warm_up(source, Limits(0.0, FIRST.most_ms)) < SLOW_SAMPLES


def decay(level: float, excess: float, constant_ms: float, sample_ms: float) -> Iterator[float]:
    """A latency that falls towards its level, as after a pause."""
    for number in itertools.count():
        yield level * (1 + excess * math.exp(-number * sample_ms / constant_ms))


@pytest.mark.parametrize("excess", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("constant_ms", [5.0, 15.0, 30.0])
def test_the_first_samples_after_a_pause_are_at_most_2_percent_slow(
    constant_ms: float, excess: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(monkeypatch, decay(1.0, excess, constant_ms, REPLAY_MS), lambda _: REPLAY_MS)
    warm_up.warm_up(source, LATER)
    assert source() < 1.02
    assert source.now_ms < LATER.most_ms + 2 * REPLAY_MS


@pytest.mark.parametrize(
    ("series", "allowed", "taken"),
    [
        # level: two groups, or the least time
        ([6.0] * 500, LATER, 2 * GROUP),
        ([6.0] * 500, FIRST, 85),
        # never level: the longest time
        ([6.0 * 1.1**n for n in range(100)], Limits(0.0, 250.0), 18),
        # samples longer than the warm-up: one
        ([300.0] * 9, LATER, 1),
        ([2500.0] * 9, FIRST, 1),
        ([0.01] * 9, ONE_SAMPLE, 1),
    ],
)
def test_the_length_of_a_warm_up(
    series: Sequence[float], allowed: Limits, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert warm_up.warm_up(Source(monkeypatch, series), allowed) == taken


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ((1.0,) * 5, (1.0,) * 5, True),
        ((1.0,) * 5, (0.991,) * 5, True),
        ((1.0,) * 5, (0.98,) * 5, False),
        # the scatter of both groups is 3 %
        ((0.97, 1.03, 1.0, 0.96, 1.04), (0.95, 1.01, 0.98, 0.94, 1.02), True),
        ((0.97, 1.03, 1.0, 0.96, 1.04), (0.90, 0.96, 0.93, 0.89, 0.97), False),
        # one outlier does not count as scatter
        ((1.0, 1.0, 1.0, 1.0, 2.0), (0.97,) * 5, False),
    ],
)
def test_agreement(earlier: tuple[float, ...], later: tuple[float, ...], expected: bool) -> None:
    assert warm_up.agree(earlier, later) is expected
    assert warm_up.agree(later, earlier) is expected


def test_a_profiler_records_one_sample_of_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (warm_up.limits(first=True), warm_up.limits(first=False)) == (FIRST, LATER)
    monkeypatch.setenv(executables.PROFILED, "nsys")
    assert {warm_up.limits(first=True), warm_up.limits(first=False)} == {ONE_SAMPLE}
