"""Forward of r08: h of a line from the line before, in registers and by shuffles."""

from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels.arithmetic import normalized, recurrence
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r08_strips.configuration import Config
from gspn2bench.kernels.r08_strips.ring import build_copy
from gspn2bench.kernels.r08_strips.stores import build_store
from gspn2bench.kernels.r08_strips.walk import build_walk
from gspn2bench.kernels.storage import storage_of
from gspn2bench.kernels.warp import neighbours


@cache
def build_forward(config: Config) -> Any:
    """Compile the forward kernel for one configuration."""
    walk = build_walk(config, _build_scan_line(config), _build_copy_line)

    @kernel("r08_strips_forward", max_registers=config.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        walk((x, lam, wl, wm, wr), (h,), height, channels, chunk, chunks)

    return forward


def _build_copy_line(config: Config, to_offset: int, offset: int) -> Any:
    """The device function ``copy_line``; see ``ring.build_produce``."""
    copy_x, copy_lam, copy_wl, copy_wm, copy_wr = (
        build_copy(config, to_offset + i * config.span, offset) for i in range(5)
    )

    @device_function
    def copy_line(
        ring: Array, to: int, inputs: Any, index: int, weight_index: int, inside: bool,
        _place: int, _last: bool,
    ) -> None:  # fmt: skip
        x, lam, wl, wm, wr = inputs
        copy_x(ring, np.uint64(to), x, np.uint64(index), inside)
        copy_lam(ring, np.uint64(to), lam, np.uint64(index), inside)
        copy_wl(ring, np.uint64(to), wl, np.uint64(weight_index), inside)
        copy_wm(ring, np.uint64(to), wm, np.uint64(weight_index), inside)
        copy_wr(ring, np.uint64(to), wr, np.uint64(weight_index), inside)

    return copy_line


def _build_scan_line(config: Config) -> Any:
    """The device function ``scan_line``; see ``walk.build_walk``."""
    run, width, logits = config.run, config.width, config.logits
    each = 4 // config.item_bytes  # values per piece
    operand = run // each  # pieces per operand
    unpack = storage_of(config.dtype).unpack
    store = build_store(config.dtype, run, width)

    @device_function
    def weights_of(pieces: Array, column: int, j: int) -> Any:
        """The weights of column j of the lane; 0 outside the line."""
        i, half = j // each, j % each
        left = unpack(pieces[2 * operand + i], half)
        middle = unpack(pieces[3 * operand + i], half)
        right = unpack(pieces[4 * operand + i], half)
        if logits:
            p = column + j
            left, middle, right = normalized(left, middle, right, p > 0, p + 1 < width)
            inside = p >= 0 and p < width
            left = left if inside else np.float32(0)
            middle = middle if inside else np.float32(0)
            right = right if inside else np.float32(0)
        return left, middle, right

    @device_function
    def scan_line(state: Any, first: int, column: int, stored: bool, outputs: Any) -> None:
        own, pieces, _, _ = state
        left, beyond = neighbours(own[0], own[run - 1])
        for j in range(run):
            i, half = j // each, j % each
            lam, x = unpack(pieces[operand + i], half), unpack(pieces[i], half)
            wl, wm, wr = weights_of(pieces, column, j)
            middle = own[j]
            right = own[j + 1] if j + 1 < run else beyond
            if j == 0:  # the operand that arrives last comes last
                own[j] = recurrence(wr, right, wm, middle, wl, left, lam, x)
            else:
                own[j] = recurrence(wl, left, wm, middle, wr, right, lam, x)
            left = middle
        if stored:
            store(outputs[0], first, column, own, 0)

    return scan_line
