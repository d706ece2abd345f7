"""Confidence interval of a median."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median; a single sample is both ends of its interval."""
    if len(samples) == 1:
        return samples[0], samples[0]
    result = stats.bootstrap(
        (np.asarray(samples),),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
