"""Host time: time that Python spends issuing one call, without waiting for the GPU.

A sample is a batch of calls, issued one after the other once the GPU is idle. Host time is the time
until the last call returns, over the number of calls. Nothing waits for the GPU in between: a
launch blocks only while the driver's queue of about 1,000 launches is full, and a batch is too
short to fill it. If a call itself synchronizes, its host time includes that wait.
"""

import time
from typing import Final

import torch

from gspn2bench.kernels.contract import Call

MAX_CALLS: Final = 50
"""Most calls in a batch."""
MAX_LAUNCHES: Final = 500
"""Most launches in a batch: half of the driver's queue."""
MAX_BATCH_MS: Final = 100.0
"""Longest batch, GPU work included, if it has more than one call."""
BLOCK: Final = 3
"""Host samples per sample block of eager time."""
MAX_SAMPLES: Final = 15
"""Most host samples of one row."""


def batch_calls(launches: int, latency_ms: float) -> int:
    """Calls in a batch: as many as keep it short and the driver's queue free.

    Args:
        launches: of one call.
        latency_ms: eager latency of one call.

    Returns:
        0 if the launches of a single call could fill the queue; its host time cannot be measured.
    """
    if launches > MAX_LAUNCHES:
        return 0
    by_queue = MAX_LAUNCHES // max(launches, 1)
    return max(1, min(MAX_CALLS, by_queue, int(MAX_BATCH_MS / latency_ms)))


def samples_ms(call: Call, calls: int, count: int) -> list[float]:
    """Samples of the host time of one call, ms.

    Args:
        call: on one operand set. Host time does not depend on the L2 cache, so no sets rotate.
        calls: in a batch, at least 1.
        count: batches.
    """
    call()  # unmeasured: the first call on an operand set may allocate memory
    samples = [_sample_ms(call, calls) for _ in range(count)]
    torch.cuda.synchronize()  # an error on the GPU then belongs to this call
    return samples


def _sample_ms(call: Call, calls: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) * 1e3 / calls
