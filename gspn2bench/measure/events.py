"""The GPU's own clock, between two events."""

from collections.abc import Callable

import torch


def elapsed_ms(action: Callable[[], object]) -> float:
    """Milliseconds that the GPU spent from before to after what the action enqueued."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    action()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
