"""The change of one latency between two runs: its interval and its verdict, from raw samples.

What parts two medians of the same code has three sources, taken as independent:

1. and 2. The sampling of BASE and of NEW. Each median has an interval from a circular block
   bootstrap (Politis and Romano, 1992): sqrt(n) samples in a row are drawn at a time, since
   neighbours share clock and temperature, and thirty of them tell less than thirty would. So few
   blocks make the interval too narrow; it is widened by Student's t over the normal quantile, with
   one degree of freedom less than there are blocks. A median is deaf to outliers, and where it
   could fall on either of two modes the interval spans both.
3. The run. No sample can show what a new process, other addresses or a warmer GPU do to all
   samples of a run alike; ``RUN_TO_RUN`` stands for that.

Their half-widths add in quadrature, each side for itself (MOVER: Zou and Donner, 2008), on the
logarithm of the latency, so that swapping BASE and NEW swaps the verdict and nothing else.

With the change c = NEW / BASE and the threshold t:

- SLOWER: c is 1 + t or more, and the whole interval is above 1.
- FASTER: c is 1 / (1 + t) or less, and the whole interval is below 1.
- SAME: the whole interval is between 1 / (1 + t) and 1 + t.
- AMBIGUOUS: anything else.

So SLOWER needs a change that matters, and evidence that there is one at all. Criterion.rs asks for
more, an interval wholly beyond the threshold; once the run counts as a source of error, that misses
too many slowdowns of 5 % at a threshold of 3 %. Here the threshold keeps quiet samples from crying
wolf, and the interval noisy ones. docs/measured/calibration.md holds the calibration.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

import numpy as np
from scipy import stats

CONFIDENCE: Final = 0.99
"""Of the interval. Not 95 %: a run has a hundred rows, and five false alarms would be too many."""
RUN_TO_RUN: Final = 0.004
"""Standard deviation of a run's median about the mean of many runs, as a share of it.

An assumption, until repeated runs of a GPU are recorded: two runs of the same code then differ by
less than ``FLOOR``, 1.5 %, in 99 of 100 pairs.
"""
THRESHOLD: Final = 0.03
MIN_SAMPLES: Final = 5
"""With fewer the spread is unknown, and the verdict AMBIGUOUS."""
RESAMPLES: Final = 1000
BATCH: Final = 1 << 20
"""Samples drawn at a time, so that memory is bounded however many a row has."""

TAIL: Final = (1 - CONFIDENCE) / 2
NORMAL: Final = float(stats.norm.isf(TAIL))
FLOOR: Final = NORMAL * math.sqrt(2) * RUN_TO_RUN
"""Half-width that no number of samples can bring the interval below, in log latency."""


class Verdict(StrEnum):
    """What two runs say of one latency."""

    SAME = "SAME"
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"


@dataclass(frozen=True)
class Change:
    """How one latency changed.

    Args:
        base_ms: median of BASE, milliseconds.
        new_ms: median of NEW, milliseconds.
        ratio: NEW / BASE; above 1 is slower.
        interval: 99 % interval of the ratio, or None where a side has under ``MIN_SAMPLES``.
        verdict: by the rule of this module.
    """

    base_ms: float
    new_ms: float
    ratio: float
    interval: tuple[float, float] | None
    verdict: Verdict


def judge(base: Sequence[float], new: Sequence[float], threshold: float = THRESHOLD) -> Change:
    """The change from ``base`` to ``new``.

    Args:
        base: samples of BASE in the order taken, milliseconds, above 0; at least one.
        new: samples of NEW, likewise; the two may differ in number.
        threshold: the change that matters, as a share of the faster run: 0.03 is 3 %.
    """
    base_ms, new_ms = median(base), median(new)
    ratio = new_ms / base_ms
    if min(len(base), len(new)) < MIN_SAMPLES:
        return Change(base_ms, new_ms, ratio, None, Verdict.AMBIGUOUS)
    base_below, base_above = _half_widths(base)
    new_below, new_above = _half_widths(new)
    low = ratio * math.exp(-math.hypot(new_below, base_above, FLOOR))
    high = ratio * math.exp(math.hypot(new_above, base_below, FLOOR))
    return Change(base_ms, new_ms, ratio, (low, high), _verdict(ratio, low, high, threshold))


def _verdict(ratio: float, low: float, high: float, threshold: float) -> Verdict:
    limit = 1 + threshold
    if ratio >= limit and low > 1:
        return Verdict.SLOWER
    if ratio <= 1 / limit and high < 1:
        return Verdict.FASTER
    if 1 / limit < low and high < limit:
        return Verdict.SAME
    return Verdict.AMBIGUOUS


def _half_widths(samples: Sequence[float]) -> tuple[float, float]:
    """How far the interval of the log median reaches below and above it, by sampling alone."""
    data = np.log(samples)
    count = len(data)
    within = np.arange(math.isqrt(count))
    blocks = math.ceil(count / len(within))
    rng = np.random.default_rng(0)
    medians: list[float] = []
    while len(medians) < RESAMPLES:
        draws = min(RESAMPLES - len(medians), max(1, BATCH // count))
        starts = rng.integers(count, size=(draws, blocks, 1))
        picked = ((starts + within) % count).reshape(draws, -1)[:, :count]
        medians.extend(np.median(data[picked], axis=1))
    low, high = np.quantile(medians, [TAIL, 1 - TAIL])
    middle = np.median(data)
    widening = float(stats.t.isf(TAIL, blocks - 1)) / NORMAL
    return widening * max(0.0, middle - low), widening * max(0.0, high - middle)
