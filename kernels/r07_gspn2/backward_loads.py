"""The loads of r07's backward: operands of a line into the ring, and h out of it."""

from typing import Any

import numpy as np

from gspn2bench.kernels import storage
from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r07_gspn2.configuration import Config


def build_loads(config: Config) -> tuple[Any, Any, Any]:
    """The device functions ``fetch``, ``fetch_h`` and ``take_h``."""
    words, pack, full, shared = config.words, config.pack, config.full, config.shared
    line_words = config.line_words
    unpack, _ = storage.words(config.dtype, pack)

    @device_function
    def fetch(
        ring: Array, k: int, first: int, weight_first: int, last_offset: int,
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        """Load a line into slot k of the ring; words outside the line load the last one inside."""
        for q in range(words):
            slot = 7 * (k * words + q)
            offset = q if full else min(q, last_offset)
            index = move(first, offset)
            weight_index = move(weight_first, offset) if shared else index
            ring[slot] = grad_h[index]
            ring[slot + 1] = x[index]
            ring[slot + 2] = lam[index]
            ring[slot + 3] = wl[weight_index]
            ring[slot + 4] = wm[weight_index]
            ring[slot + 5] = wr[weight_index]

    @device_function
    def fetch_h(ring: Array, k: int, first: int, last_offset: int, h: Array) -> None:
        """Load h of the line that precedes slot k's in the scan."""
        for q in range(words):
            ring[7 * (k * words + q) + 6] = h[move(first, q if full else min(q, last_offset))]

    @device_function
    def take_h(ring: Array, k: int, h_before: Array, thread: int) -> None:
        """Take h of the line that precedes slot k's out of the ring; 0 outside the line."""
        for q in range(words):
            inside = full or thread * words + q < line_words
            for i in range(pack):
                value = unpack(ring[7 * (k * words + q) + 6], i)
                h_before[q * pack + i] = value if inside else np.float32(0)

    return fetch, fetch_h, take_h
