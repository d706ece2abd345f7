"""Backward of r08: the walk of forward, from the last line of a chunk to the first.

A line gives gradient back to the line before it, through its own weights. So a lane keeps the
gradient g of a line and the line's weights until the next line of the walk. Two of the products
belong to its neighbours, which get them by shuffles. The exchange between strips sends g alone:
the weights of a halo are loaded like those of the strip.

With weights that several channels share, the kernel writes g in float32. A second launch sums the
gradients of the weights over the channels: see r07_gspn2/weight_sum.py.
"""

from functools import cache
from typing import Any, Final

import numpy as np

from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r08_strips.configuration import Config
from gspn2bench.kernels.r08_strips.ring import build_copy
from gspn2bench.kernels.r08_strips.stores import build_store
from gspn2bench.kernels.r08_strips.walk import build_walk
from gspn2bench.kernels.storage import storage_of
from gspn2bench.kernels.warp import neighbours

NEAR: Final = 8
"""Columns of h that are loaded on either side of the own ones: at least a piece."""


@cache
def build_backward(config: Config) -> Any:
    """Compile the backward kernel for one configuration."""
    walk = build_walk(config, _build_scan_line(config), _build_copy_line)

    @kernel("r08_strips_backward", max_registers=config.max_registers)
    def backward(
        grad_h: Array, x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        grad_x: Array, grad_lam: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array, g: Array,
        height: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        inputs = (grad_h, wl, wm, wr, x, lam, h)
        outputs = (grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g)
        walk(inputs, outputs, height, channels, chunk, chunks)

    return backward


def _build_copy_line(config: Config, to_offset: int, offset: int) -> Any:
    """The device function ``copy_line``; see ``ring.build_produce``.

    x, lam and h are needed only for a strip's own columns, and h also for those next to them.
    """
    span, halo, needs_h = config.span, config.halo, not config.shared
    copy_grad_h, copy_wl, copy_wm, copy_wr, copy_x, copy_lam = (
        build_copy(config, to_offset + i * span, offset) for i in range(6)
    )
    before = config.width if config.upward else -config.width  # to the line before in the scan
    copy_h = build_copy(config, to_offset + 6 * span, offset + before)

    @device_function
    def copy_line(
        ring: Array, to: int, inputs: Any, index: int, weight_index: int, inside: bool, place: int,
        last: bool,
    ) -> None:  # fmt: skip
        grad_h, wl, wm, wr, x, lam, h = inputs
        copy_grad_h(ring, np.uint64(to), grad_h, np.uint64(index), inside)
        copy_wl(ring, np.uint64(to), wl, np.uint64(weight_index), inside)
        copy_wm(ring, np.uint64(to), wm, np.uint64(weight_index), inside)
        copy_wr(ring, np.uint64(to), wr, np.uint64(weight_index), inside)
        own = inside and place >= halo and place < span - halo
        copy_x(ring, np.uint64(to), x, np.uint64(index), own)
        copy_lam(ring, np.uint64(to), lam, np.uint64(index), own)
        if needs_h:
            near = inside and place >= halo - NEAR and place < span - halo + NEAR and not last
            copy_h(ring, np.uint64(to), h, np.uint64(index), near)

    return copy_line


def _build_scan_line(config: Config) -> Any:
    """The device function ``scan_line``; see ``walk.build_walk``."""
    run, shared = config.run, config.shared
    each = 4 // config.item_bytes  # values per piece
    operand = run // each  # pieces per operand
    kept = 3 * operand
    unpack = storage_of(config.dtype).unpack
    store = build_store(config.dtype, run, config.width)
    store_g = build_store("float32", run, config.width)

    @device_function
    def value(pieces: Array, tensor: int, j: int) -> Any:
        """Column j of the lane."""
        return unpack(pieces[tensor * operand + j // each], j % each)

    @device_function
    def scan_line(state: Any, first: int, column: int, stored: bool, outputs: Any) -> None:
        own, pieces, weights, values = state
        to_left = value(weights, 0, 0) * own[0]
        to_right = value(weights, 2, run - 1) * own[run - 1]
        from_left, from_right = neighbours(to_left, to_right)
        own_before = own[0]
        for j in range(run):
            middle = own[j]
            gradient = value(pieces, 0, j) + value(weights, 1, j) * middle
            if j + 1 < run:
                gradient += value(weights, 0, j + 1) * own[j + 1]
            if j > 0:
                gradient += value(weights, 2, j - 1) * own_before
            if j == 0:
                gradient += from_left
            if j + 1 == run:
                gradient += from_right
            own_before = middle
            own[j] = gradient
        for i in range(kept):
            weights[i] = pieces[operand + i]
        if not shared:
            h_left, h_beyond = neighbours(value(pieces, 6, 0), value(pieces, 6, run - 1))
        for j in range(run):
            values[j] = value(pieces, 5, j) * own[j]
            values[run + j] = value(pieces, 4, j) * own[j]
            if not shared:
                h_middle = value(pieces, 6, j)
                values[2 * run + j] = own[j] * h_left
                values[3 * run + j] = own[j] * h_middle
                values[4 * run + j] = own[j] * (
                    value(pieces, 6, j + 1) if j + 1 < run else h_beyond
                )
                h_left = h_middle
        if stored:
            grad_x, grad_lam, grad_wl, grad_wm, grad_wr, g = outputs
            store(grad_x, first, column, values, 0)
            store(grad_lam, first, column, values, run)
            if shared:
                store_g(g, first, column, own, 0)
            else:
                store(grad_wl, first, column, values, 2 * run)
                store(grad_wm, first, column, values, 3 * run)
                store(grad_wr, first, column, values, 4 * run)

    return scan_line
