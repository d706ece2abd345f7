"""The change of one latency between two runs: its interval and its verdict, from raw samples.

Medians of two runs of identical code differ for three reasons, which are taken as independent:

1. and 2. Sampling, in BASE and in NEW. Each median has an interval from a circular block bootstrap
   (Politis and Romano, 1992), which draws blocks of sqrt(n) consecutive samples. Neighbouring
   samples share clock and temperature, so 30 of them carry less information than 30 independent
   ones. With so few blocks the interval is too narrow. It is therefore widened by Student's t over
   the normal quantile, with one degree of freedom fewer than there are blocks. The median ignores
   outliers. If it may fall on either of two modes, the interval spans both.
3. The run. A new process, different addresses or a warmer GPU shift all samples of a run alike, and
   no sample shows it. ``RUN_TO_RUN`` is the assumed size of this shift.

The half-widths add in quadrature, separately for each side (MOVER: Zou and Donner, 2008). They are
computed on the logarithm of the latency, so swapping BASE and NEW only inverts the verdict.

With the change c = NEW / BASE and the threshold t:

- SLOWER: c is 1 + t or more, and the whole interval is above 1.
- FASTER: c is 1 / (1 + t) or less, and the whole interval is below 1.
- SAME: the whole interval is between 1 / (1 + t) and 1 + t.
- AMBIGUOUS: anything else.

``cycles`` adds one verdict. A row that is SLOWER or FASTER, but SAME in clock cycles, is CLOCK.

SLOWER thus needs a change that matters, and evidence that there is a change. The threshold prevents
false alarms on low-noise samples, and the interval prevents them on noisy samples. Criterion.rs
requires more: the whole interval beyond the threshold. With the run as a source of error, that rule
misses too many slowdowns of 5 % at a threshold of 3 %. docs/measured/calibration.md has the
calibration.
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
"""Confidence of the interval. At 95 %, a run of a hundred rows would have five false alarms."""
RUN_TO_RUN: Final = 0.004
"""Standard deviation of the median of a run about the mean of many runs, as a share of that mean.

This is an assumption until repeated runs on a GPU are recorded. With it, two runs of the same code
differ by less than ``FLOOR``, 1.5 %, in 99 of 100 pairs.
"""
THRESHOLD: Final = 0.03
"""The default change that matters, as a share of the faster run."""
MIN_SAMPLES: Final = 5
"""With fewer samples the spread is unknown and the verdict is AMBIGUOUS."""
RESAMPLES: Final = 1000
BATCH: Final = 1 << 20
"""Most samples drawn at once, which bounds memory for rows with many samples."""

TAIL: Final = (1 - CONFIDENCE) / 2
NORMAL: Final = float(stats.norm.isf(TAIL))
FLOOR: Final = NORMAL * math.sqrt(2) * RUN_TO_RUN
"""Least half-width of the interval, in log latency, whatever the number of samples."""


class Verdict(StrEnum):
    """The verdict on the change of one latency between two runs."""

    SAME = "SAME"
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"
    CLOCK = "CLOCK"


@dataclass(frozen=True)
class Change:
    """How one latency changed.

    Args:
        base_ms: median of BASE, milliseconds.
        new_ms: median of NEW, milliseconds.
        ratio: NEW / BASE; above 1 is slower.
        interval: 99 % interval of the ratio; None if a run has fewer than ``MIN_SAMPLES``.
        verdict: by the rule in the docstring of this module.
        clocks_mhz: median clock of BASE and of NEW, MHz; None if either is unknown.
        cycles_ratio: NEW / BASE in clock cycles; None if a clock is unknown.
    """

    base_ms: float
    new_ms: float
    ratio: float
    interval: tuple[float, float] | None
    verdict: Verdict
    clocks_mhz: tuple[float, float] | None = None
    cycles_ratio: float | None = None


def judge(base: Sequence[float], new: Sequence[float], threshold: float = THRESHOLD) -> Change:
    """Judge the change from ``base`` to ``new``.

    Args:
        base: samples of BASE in the order taken, milliseconds, above 0; at least one.
        new: samples of NEW, likewise; the numbers of samples may differ.
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
    """Distances from the log median to both ends of its interval, from sampling alone."""
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
