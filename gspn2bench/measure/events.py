"""GPU time between two CUDA events."""

from collections.abc import Callable

import torch


def elapsed_ms(action: Callable[[], object]) -> float:
    """GPU time, ms, of the work that an action enqueues on the current stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    action()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
