"""Several calls side by side: a stream each, forked from and joined to the current one.

Source: arXiv 2512.07884, section 3.3: the four directions do not depend on each other.
"""

from collections.abc import Sequence

import torch

from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.jit import SIMULATED


def side_by_side(calls: Sequence[Call]) -> Call:
    """One call that runs several at once and is done when all of them are.

    Each runs on a non-blocking stream of its own, which starts after what the current stream was
    given before, and which the current stream waits for: a CUDA graph captures fork and join. The
    simulator knows no streams and runs them in turn.
    """

    def in_turn() -> None:
        for call in calls:
            call()

    if SIMULATED:
        return in_turn
    streams = [torch.cuda.Stream() for _ in calls]  # type: ignore[no-untyped-call]
    fork, *joins = (torch.cuda.Event() for _ in range(len(calls) + 1))  # type: ignore[no-untyped-call]

    def together() -> None:
        current = torch.cuda.current_stream()
        fork.record(current)
        try:
            for call, stream, join in zip(calls, streams, joins, strict=True):
                stream.wait_event(fork)
                torch.cuda.set_stream(stream)
                call()
                join.record(stream)
        finally:
            torch.cuda.set_stream(current)
        for join in joins:
            current.wait_event(join)

    return together
