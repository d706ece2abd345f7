"""A tile of backward: loaded word by word, and written back as the gradients.

The thread that writes a position's weight gradients adds the products of all channels of the block,
in their order. So there are no atomics, and g, the whole gradient of h, is never written to memory.
"""

from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels import storage
from gspn2bench.kernels.arithmetic import logit_gradients, normalized_with_sum
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r09_quad.configuration import Config
from gspn2bench.kernels.r09_quad.places import build_bounds, build_places


@cache
def build_fetch(config: Config) -> tuple[Any, Any]:
    """Compile ``fetch`` and ``fetch_late``, which load a tile's words into registers.

    A word that does not count loads the tile's first word.
    """
    group, threads, loads, with_u = config.group, config.threads, config.loads, config.with_u
    place, offset, _, _ = build_places(config)
    inside, owned = build_bounds(config)
    per_channel = 3 if with_u else 2
    each = per_channel * group + 3

    @device_function
    def fetch(
        ahead: Array, j: int, thread: int, vertical: bool, sign: int, left: int, low: int,
        length: int, at: int, w_at: int, channel: int, w_plane: int,
        grad: Array, h: Array, u: Array, w: Array,
    ) -> None:  # fmt: skip
        """Load word j of the incoming gradient, h and u of every channel, and of the weights."""
        line, position = place(thread + j * threads, vertical)
        counts = inside(line, position, vertical, left, low, length)
        words = offset(line, position, vertical, sign) if counts else 0
        for c in range(group):
            index = np.uint64(at + words + c * channel)
            slot = j * each + per_channel * c
            ahead[slot] = grad[index]
            ahead[slot + 1] = h[index]
            if with_u:
                ahead[slot + 2] = u[index]
        for i in range(3):
            ahead[j * each + per_channel * group + i] = w[np.uint64(w_at + words + i * w_plane)]

    @device_function
    def fetch_late(
        late: Array, thread: int, vertical: bool, sign: int, left: int, x_at: int, at: int,
        channel: int, x: Array, lam: Array, grad: Array,
    ) -> None:  # fmt: skip
        """Load the words that are not needed before the tile is written."""
        for j in range(loads):
            line, position = place(thread + j * threads, vertical)
            words = offset(line, position, vertical, sign)
            words = words if owned(line, position, vertical, left) else 0
            for c in range(group):
                slot = per_channel * (j * group + c)
                late[slot] = x[np.uint64(x_at + words + c * channel)]
                late[slot + 1] = lam[np.uint64(at + words + c * channel)]
                if with_u:
                    late[slot + 2] = grad[np.uint64(at + words + c * channel)]

    return fetch, fetch_late


@cache
def build_stage(config: Config) -> Any:
    """Compile ``stage``, which writes word j to shared memory, in float32.

    Behind the last line h is 0. Nothing else is used there.
    """
    group, threads, pack, lines = config.group, config.threads, config.pack, config.lines
    logits, with_u = config.logits, config.with_u
    tile_size = config.tile
    h_size = tile_size + config.slots.line
    h_tiles, weights = group * tile_size, group * (tile_size + h_size)
    place, _, _, element = build_places(config)
    inside, _ = build_bounds(config)
    unpack, _ = storage.words(config.dtype, pack)
    per_channel = 3 if with_u else 2
    each = per_channel * group + 3

    @device_function
    def stage(
        tile: Array, ahead: Array, j: int, thread: int, vertical: bool, sign: int, left: int,
        low: int, length: int,
    ) -> None:  # fmt: skip
        line, position = place(thread + j * threads, vertical)
        if inside(line, position, vertical, lines, low, length):
            slot = j * each + per_channel * group
            for i in range(pack):
                index = element(line, position, i, vertical, sign)
                wl = unpack(ahead[slot], i)
                wm = unpack(ahead[slot + 1], i)
                wr = unpack(ahead[slot + 2], i)
                if logits:
                    in_line = position + low + (i if vertical else 0)
                    wl, wm, wr, sigmoids = normalized_with_sum(
                        wl, wm, wr, in_line > 0, in_line + 1 < length
                    )
                    tile[np.uint64(weights + 3 * tile_size + index)] = sigmoids
                tile[np.uint64(weights + index)] = wl
                tile[np.uint64(weights + tile_size + index)] = wm
                tile[np.uint64(weights + 2 * tile_size + index)] = wr
                for c in range(group):
                    gradient = unpack(ahead[j * each + per_channel * c], i)
                    state = unpack(ahead[j * each + per_channel * c + 1], i)
                    if with_u:
                        gradient = gradient * unpack(ahead[j * each + per_channel * c + 2], i)
                    tile[np.uint64(c * tile_size + index)] = gradient
                    state = state if line < left else np.float32(0)
                    tile[np.uint64(h_tiles + c * h_size + index)] = state

    return stage


@cache
def build_write(config: Config, partial: bool) -> Any:
    """Compile ``write``, which writes the gradients of a tile, word by word.

    Args:
        config: sizes and tiles.
        partial: whether ``grad_w`` takes the sums of a group of channels, in float32.
    """
    group, threads, loads, pack = config.group, config.threads, config.loads, config.pack
    logits, with_u, tile_size = config.logits, config.with_u, config.tile
    h_size = tile_size + config.slots.line
    h_tiles, weights = group * tile_size, group * (tile_size + h_size)
    place, offset, _, element = build_places(config)
    _, owned = build_bounds(config)
    unpack, join = storage.words(config.dtype, pack)
    per_channel = 3 if with_u else 2
    sums_size = 3 * pack

    @device_function
    def to_logits(tile: Array, sums: Array, line: int, position: int, vertical: bool,
                  sign: int) -> None:  # fmt: skip
        """Replace the gradients of a word's weights by those of its logits."""
        for i in range(pack):
            index = weights + element(line, position, i, vertical, sign)
            sums[i], sums[pack + i], sums[2 * pack + i] = logit_gradients(
                sums[i], sums[pack + i], sums[2 * pack + i], tile[np.uint64(index)],
                tile[np.uint64(index + tile_size)], tile[np.uint64(index + 2 * tile_size)],
                tile[np.uint64(index + 3 * tile_size)],
            )  # fmt: skip

    @device_function
    def write(
        tile: Array, late: Array, values: Array, sums: Array, thread: int, vertical: bool,
        sign: int, left: int, at: int, w_at: int, channel: int, w_plane: int,
        grad_x: Array, grad_lam: Array, grad_u: Array, grad_w: Array,
    ) -> None:  # fmt: skip
        for j in range(loads):
            line, position = place(thread + j * threads, vertical)
            if owned(line, position, vertical, left):
                words = offset(line, position, vertical, sign)
                for i in range(sums_size):
                    sums[i] = np.float32(0)
                for c in range(group):
                    slot = per_channel * (j * group + c)
                    h_tile = h_tiles + c * h_size
                    for i in range(pack):
                        index = element(line, position, i, vertical, sign)
                        g = tile[np.uint64(c * tile_size + index)]
                        values[i] = g * unpack(late[slot + 1], i)
                        values[pack + i] = g * unpack(late[slot], i)
                        if with_u:
                            state = tile[np.uint64(h_tile + index)]
                            values[2 * pack + i] = state * unpack(late[slot + 2], i)
                        for k in range(3):
                            beside = element(line + 1, position + k - 1, i, vertical, sign)
                            sums[k * pack + i] += g * tile[np.uint64(h_tile + beside)]
                    index = np.uint64(at + words + c * channel)
                    grad_x[index] = join(values, 0)
                    grad_lam[index] = join(values, pack)
                    if with_u:
                        grad_u[index] = join(values, 2 * pack)
                if logits and not partial:
                    to_logits(tile, sums, line, position, vertical, sign)
                for k in range(3):
                    word = w_at + words + k * w_plane
                    if partial:
                        for i in range(pack):
                            grad_w[np.uint64(word * pack + i)] = sums[k * pack + i]
                    else:
                        grad_w[np.uint64(word)] = join(sums, k * pack)

    return write
