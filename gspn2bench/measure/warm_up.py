"""Warm-up: samples that are not recorded, taken until the GPU has reached a steady state.

After a pause the first samples are slower. The power state of the GPU rises within some hundred
milliseconds, and the first replays after a short pause decay within some ten. No column of NVML
shows either, so the samples themselves decide: the warm-up ends when two consecutive groups agree
within their scatter. The least time covers a slow state whose samples agree with each other.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from gspn2bench.system import executables

GROUP: Final = 5
"""Samples in a group."""
AGREEMENT: Final = 0.01
"""Two groups whose medians differ by no more than this share agree, however small the scatter."""


@dataclass(frozen=True)
class Limits:
    """The length of a warm-up.

    Args:
        least_ms: shortest time, even if the groups agree.
        most_ms: longest time. No further sample starts after it.
    """

    least_ms: float
    most_ms: float


FIRST: Final = Limits(500.0, 2000.0)
"""Before the first sample block of a row. On an H200, samples of one row were 15 % slower for about
300 ms."""
LATER: Final = Limits(0.0, 250.0)
"""Before each later sample block. Other rungs, or none, have run since the last one."""


ONE_SAMPLE: Final = Limits(0.0, 0.0)
"""Under a profiler, which would record every call of a longer warm-up."""


def limits(*, first: bool) -> Limits:
    """The limits of the warm-up before a sample block.

    Args:
        first: whether it is the first sample block of a row.
    """
    if os.environ.get(executables.PROFILED):
        return ONE_SAMPLE
    return FIRST if first else LATER


def warm_up(sample: Callable[[], float], allowed: Limits) -> int:
    """Take samples until two consecutive groups agree, within the limits; at least one.

    Args:
        sample: takes one sample, ms.
        allowed: the shortest and the longest time.

    Returns:
        The number of samples taken.
    """
    start = time.perf_counter()
    samples: list[float] = []
    while True:
        samples.append(sample())
        spent_ms = (time.perf_counter() - start) * 1e3
        if spent_ms >= allowed.most_ms:
            return len(samples)
        if spent_ms < allowed.least_ms or len(samples) < 2 * GROUP or len(samples) % GROUP:
            continue
        if agree(samples[-2 * GROUP : -GROUP], samples[-GROUP:]):
            return len(samples)


def agree(earlier: Sequence[float], later: Sequence[float]) -> bool:
    """Whether the medians of two groups differ by at most ``AGREEMENT`` or their scatter.

    The scatter is the median distance of a sample from the median of its group.
    """
    middles = median(earlier), median(later)
    scatter = median(
        abs(value - middle)
        for group, middle in zip((earlier, later), middles, strict=True)
        for value in group
    )
    return abs(middles[0] - middles[1]) <= max(AGREEMENT * min(middles), scatter)
