"""How the simulator runs what only a GPU has: the exchange within a warp, and mbarriers.

The simulator runs a Python thread per CUDA thread. Here the threads of a warp meet at a barrier of
Python, and an mbarrier is a number in shared memory that one thread at a time changes.
"""

import threading
import time
from typing import Any, Final

import numpy as np

WARP: Final = 32
PATIENCE_S: Final = 60.0
"""Longest wait for other threads of a simulated block. A faulty kernel then cannot hang a test."""
NO_BYTES: Final = 1 << 31
"""The field of bytes if none are expected: it may be negative for a while."""

_lock: Final = threading.Lock()


def neighbours(first: Any, last: Any) -> tuple[Any, Any]:
    """``last`` of the lane before and ``first`` of the next lane; the own one at either end."""
    meeting, values, lane = _warp()
    values[lane] = (first, last)
    meeting.wait(PATIENCE_S)
    left, right = values[max(lane - 1, 0)][1], values[min(lane + 1, WARP - 1)][0]
    meeting.wait(PATIENCE_S)  # all have read
    return left, right


def sync() -> None:
    """Wait until every lane of the warp is here."""
    _warp()[0].wait(PATIENCE_S)


def _warp() -> tuple[threading.Barrier, list[Any], int]:
    """Where the lanes of this thread's warp meet, a value per lane, and this thread's lane."""
    thread: Any = threading.current_thread()
    warp, lane = divmod(thread.threadIdx.x, WARP)
    with _lock:
        warps = thread._manager.__dict__.setdefault("warps", {})
        if warp not in warps:
            warps[warp] = threading.Barrier(WARP), [None] * WARP
    return (*warps[warp], lane)


def init(barriers: Any, i: int, count: int) -> None:
    """Set up mbarrier ``i`` for this number of arrivals per phase."""
    barriers[i] = _packed(0, int(count), int(count), NO_BYTES)


def change(barriers: Any, i: int, arrivals: int, expected: int) -> None:
    """Arrive, and expect bytes; bytes that arrive are expected ones less."""
    with _lock:
        parity, count, pending, missing = _fields(barriers[i])
        pending, missing = pending - arrivals, missing + expected
        if pending == 0 and missing == NO_BYTES:
            parity, pending = 1 - parity, count
        barriers[i] = _packed(parity, count, pending, missing)


def wait(barriers: Any, i: int, parity: int) -> None:
    """Wait until the phase of this parity has ended."""
    thread: Any = threading.current_thread()
    deadline = time.monotonic() + PATIENCE_S
    while _fields(barriers[i])[0] == parity:
        if thread.abort or time.monotonic() > deadline:
            raise RuntimeError(f"mbarrier {i}: the phase of parity {parity} does not end")
        time.sleep(0)


def _packed(parity: int, count: int, pending: int, missing: int) -> Any:
    return np.uint64(parity << 60 | count << 46 | pending << 33 | missing)


def _fields(word: Any) -> tuple[int, int, int, int]:
    word = int(word)
    return word >> 60, word >> 46 & 0x3FFF, word >> 33 & 0x1FFF, word & 0x1FFFFFFFF
