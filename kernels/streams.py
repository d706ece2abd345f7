"""Several calls side by side, each on a stream that forks from the current one and joins it.

Source: arXiv 2512.07884, section 3.3: the four directions do not depend on each other.
"""

from collections.abc import Sequence

import torch

from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.jit import SIMULATED


def side_by_side(calls: Sequence[Call]) -> Call:
    """One call that runs several calls at once.

    Each has a non-blocking stream. The streams wait for the work already on the current stream, and
    the current stream waits for them, so a CUDA graph captures fork and join. The simulator has no
    streams and runs the calls one after another.
    """

    def one_after_another() -> None:
        for call in calls:
            call()

    if SIMULATED:
        return one_after_another
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
