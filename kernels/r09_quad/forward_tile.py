"""A tile of forward: loaded word by word, normalized on its way to shared memory, written back."""

from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels import storage
from gspn2bench.kernels.arithmetic import normalized
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r09_quad.configuration import Config
from gspn2bench.kernels.r09_quad.places import build_bounds, build_places


@cache
def build_fetch(config: Config) -> tuple[Any, Any]:
    """Compile ``fetch`` and ``fetch_u``, which load a tile's words into registers.

    A word that does not count loads the tile's first word.
    """
    group, threads, loads = config.group, config.threads, config.loads
    place, offset, _, _ = build_places(config)
    inside, owned = build_bounds(config)
    each = 2 * group + 3

    @device_function
    def fetch(
        ahead: Array, j: int, thread: int, vertical: bool, sign: int, left: int, low: int,
        length: int, x_at: int, lam_at: int, w_at: int, channel: int, w_plane: int,
        x: Array, lam: Array, w: Array,
    ) -> None:  # fmt: skip
        """Load word j of x and lam of every channel, and of the weights."""
        line, position = place(thread + j * threads, vertical)
        counts = inside(line, position, vertical, left, low, length)
        words = offset(line, position, vertical, sign) if counts else 0
        for c in range(group):
            ahead[j * each + 2 * c] = x[np.uint64(x_at + words + c * channel)]
            ahead[j * each + 2 * c + 1] = lam[np.uint64(lam_at + words + c * channel)]
        for i in range(3):
            ahead[j * each + 2 * group + i] = w[np.uint64(w_at + words + i * w_plane)]

    @device_function
    def fetch_u(
        scale: Array, thread: int, vertical: bool, sign: int, left: int, at: int, channel: int,
        u: Array,
    ) -> None:  # fmt: skip
        """Load the words of u, which are not needed before the tile is written."""
        for j in range(loads):
            line, position = place(thread + j * threads, vertical)
            words = offset(line, position, vertical, sign)
            words = words if owned(line, position, vertical, left) else 0
            for c in range(group):
                scale[j * group + c] = u[np.uint64(at + words + c * channel)]

    return fetch, fetch_u


@cache
def build_stage(config: Config) -> Any:
    """Compile ``stage``, which writes word j to shared memory: lam x and weights, in float32.

    ``bias`` has those of x, lam and u for each channel of the block, then those of the weights.
    """
    group, threads, pack = config.group, config.threads, config.pack
    logits, with_bias, tile_size = config.logits, config.with_bias, config.tile
    place, _, _, element = build_places(config)
    inside, _ = build_bounds(config)
    unpack, _ = storage.words(config.dtype, pack)
    each = 2 * group + 3
    weights, last = group * tile_size, 3 * group

    @device_function
    def stage(
        tile: Array, ahead: Array, bias: Array, j: int, thread: int, vertical: bool, sign: int,
        left: int, low: int, length: int,
    ) -> None:  # fmt: skip
        line, position = place(thread + j * threads, vertical)
        if inside(line, position, vertical, left, low, length):
            for i in range(pack):
                index = element(line, position, i, vertical, sign)
                wl = unpack(ahead[j * each + 2 * group], i)
                wm = unpack(ahead[j * each + 2 * group + 1], i)
                wr = unpack(ahead[j * each + 2 * group + 2], i)
                if with_bias:
                    wl, wm, wr = wl + bias[last], wm + bias[last + 1], wr + bias[last + 2]
                if logits:
                    in_line = position + low + (i if vertical else 0)
                    wl, wm, wr = normalized(wl, wm, wr, in_line > 0, in_line + 1 < length)
                tile[np.uint64(weights + index)] = wl
                tile[np.uint64(weights + tile_size + index)] = wm
                tile[np.uint64(weights + 2 * tile_size + index)] = wr
                for c in range(group):
                    value = unpack(ahead[j * each + 2 * c], i)
                    scale = unpack(ahead[j * each + 2 * c + 1], i)
                    if with_bias:
                        value, scale = value + bias[3 * c], scale + bias[3 * c + 1]
                    tile[np.uint64(c * tile_size + index)] = value * scale

    return stage


@cache
def build_fetch_bias(config: Config) -> Any:
    """Compile ``fetch_bias``, which loads the biases of a block's channels and weights.

    (bias, number, first, channels, source): the scan and the first channel of the block, and the
    biases of all channels, in the order of ``FourOperands.bias``.
    """
    group, directions, shared = config.group, config.directions, config.shared
    with_bias, (load, _) = config.with_bias, storage.storage(config.dtype)

    @device_function
    def fetch_bias(bias: Array, number: int, first: int, channels: int, source: Array) -> None:
        if with_bias:
            for c in range(group):
                lam = channels + number * channels + first + c
                bias[3 * c] = load(source, np.uint64(first + c))
                bias[3 * c + 1] = load(source, np.uint64(lam))
                bias[3 * c + 2] = load(source, np.uint64(lam + directions * channels))
            sets = 1 if shared else channels
            own = 0 if shared else first
            for i in range(3):
                index = (1 + 2 * directions) * channels + (number * 3 + i) * sets + own
                bias[3 * group + i] = load(source, np.uint64(index))

    return fetch_bias


@cache
def build_write(config: Config) -> Any:
    """Compile ``write``, which writes a tile of h, of u h, or of both."""
    group, threads, loads, pack = config.group, config.threads, config.loads, config.pack
    tile_size, with_u, with_h = config.tile, config.with_u, config.with_h
    with_bias = config.with_bias
    place, offset, _, element = build_places(config)
    _, owned = build_bounds(config)
    unpack, join = storage.words(config.dtype, pack)

    @device_function
    def write(
        tile: Array, scale: Array, bias: Array, values: Array, thread: int, vertical: bool,
        sign: int, left: int, at: int, channel: int, h: Array, y: Array,
    ) -> None:  # fmt: skip
        for j in range(loads):
            line, position = place(thread + j * threads, vertical)
            if owned(line, position, vertical, left):
                words = offset(line, position, vertical, sign)
                for c in range(group):
                    index = np.uint64(at + words + c * channel)
                    for i in range(pack):
                        slot = c * tile_size + element(line, position, i, vertical, sign)
                        values[i] = tile[np.uint64(slot)]
                    if with_h:
                        h[index] = join(values, 0)
                    if with_u:
                        for i in range(pack):
                            u = unpack(scale[j * group + c], i)
                            values[i] *= u + bias[3 * c + 2] if with_bias else u
                        y[index] = join(values, 0)

    return write
