"""The GPU's own clock, between two events."""

from collections.abc import Callable

import torch


def elapsed_ms(action: Callable[[], object]) -> float:
    """Milliseconds that the GPU spent from before to after what the action enqueued."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    action()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
