"""Backward of r09: load a tile, walk its lines from the last to the first, write the gradients."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32

from gspn2bench.kernels.arithmetic import adjoint
from gspn2bench.kernels.cluster import cluster_arrive, cluster_wait
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r09_quad.backward_tile import build_fetch, build_stage, build_write
from gspn2bench.kernels.r09_quad.configuration import Config, shared_floats
from gspn2bench.kernels.r09_quad.edges import build_send_edges
from gspn2bench.kernels.r09_quad.places import build_block, build_line_barrier
from gspn2bench.kernels.storage import storage_of


@cache
def build_walk(config: Config) -> Any:
    """Compile ``walk``, which computes g line by line; it takes the place of the gradient.

    ``back`` is the gradient that a line gives to the line before it in the scan.
    """
    lines, run, tile_size = config.lines, config.run, config.tile
    pitch, line_pitch = config.slots
    barrier = build_line_barrier(config)

    @device_function
    def take(tile: Array, values: Array, data: int, weight: int) -> None:
        """Read the gradient and the weights of a thread's positions, and two weights beside."""
        for e in range(run):
            values[4 * e] = tile[np.uint64(data + e * pitch)]
            for i in range(3):
                values[4 * e + 1 + i] = tile[np.uint64(weight + i * tile_size + e * pitch)]
        values[4 * run] = tile[np.uint64(weight + 1)]  # wl of the next thread's first position
        last = 2 * tile_size + (run - 1) * pitch - 1
        values[4 * run + 1] = tile[np.uint64(weight + last)]  # wr of the last one's last

    @device_function
    def walk(
        tile: Array, values: Array, back: Array, g: Array, data: int, weight: int,
        position: int, length: int, walking: bool,
    ) -> None:  # fmt: skip
        for k in range(lines):
            line = data + k * line_pitch
            if walking:
                take(tile, values, line, weight + k * line_pitch)
                for e in range(run):
                    total = values[4 * e] + back[e]
                    g[e] = total if 0 <= position + e < length else np.float32(0)
                    tile[np.uint64(line + e * pitch)] = g[e]
            barrier()
            if walking:
                left = tile[np.uint64(line + (run - 1) * pitch - 1)]
                beyond = tile[np.uint64(line + 1)]
                for e in range(run):
                    wr = values[4 * e - 1] if e > 0 else values[4 * run + 1]
                    wl = values[4 * e + 5] if e + 1 < run else values[4 * run]
                    right = g[e + 1] if e + 1 < run else beyond
                    back[e] = adjoint(np.float32(0), values[4 * e + 2], g[e], wl, right, wr, left)
                    left = g[e]

    return walk


@cache
def build_fetch_line(config: Config) -> Any:
    """Compile ``fetch_line``, which loads h of the line behind a tile's last; 0 if there is none.

    (beyond, position, vertical, low, length, line, counts, at, h): the thread's positions, from h
    as single values.
    """
    run, width = config.run, config.width
    widen = storage_of(config.dtype).widen

    @device_function
    def fetch_line(
        beyond: Array, position: int, vertical: bool, low: int, length: int, line: int,
        counts: bool, at: int, h: Array,
    ) -> None:  # fmt: skip
        for e in range(run):
            in_line = position + e + low
            known = counts and 0 <= in_line < length
            index = line * width + in_line if vertical else in_line * width + line
            state = widen(h[np.uint64(at + (index if known else 0))])
            beyond[e] = state if known else np.float32(0)

    return fetch_line


@cache
def build_backward(config: Config, partial: bool) -> Any:
    """Compile the kernel.

    Args:
        config: sizes and tiles.
        partial: whether ``grad_w`` takes the sums of each group of channels, in float32.
    """
    group, loads, threads, pack = config.group, config.loads, config.threads, config.pack
    lines, run, walkers, parts = config.lines, config.run, config.walkers, config.parts
    word, shared = config.word_type, config.shared
    height, width = config.height, config.width
    config_first, directions = config.first, config.directions
    pitch, line_pitch = config.slots
    tile_size, floats = config.tile, shared_floats(config, "backward")
    h_size = tile_size + line_pitch
    weights = group * (tile_size + h_size)
    edges = weights + (4 if config.logits else 3) * tile_size
    plane, elements = height * width // pack, height * width
    block_of, start_of = build_block(config)
    fetch, fetch_late = build_fetch(config)
    fetch_line, stage, walk = build_fetch_line(config), build_stage(config), build_walk(config)
    write, send_edges = build_write(config, partial), build_send_edges(config)
    per_channel = 3 if config.with_u else 2
    ahead_size, late_size = loads * (per_channel * group + 3), loads * per_channel * group
    line_size, values_size, sums_size = 4 * run + 2, per_channel * pack, 3 * pack

    @kernel("r09_quad_backward", max_registers=config.max_registers)
    def backward(
        grad: Array, x: Array, lam: Array, w: Array, h: Array, u: Array, h_values: Array,
        grad_x: Array, grad_lam: Array, grad_u: Array, grad_w: Array,
        slices: int, groups: int, image_step: int, channel_step: int, sets: int, set_step: int,
        chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = np.int64(np.uint32(cuda.threadIdx.x))
        direction, vertical, part, group_index, begin, image = block_of(
            cuda.blockIdx.x, groups, chunk, chunks
        )
        rows = min(np.int64(chunk), np.int64(height if vertical else width) - begin)
        if rows <= 0:  # the other directions have more chunks
            return
        corner, jump, sign, low, length, first = start_of(direction, part, begin, rows, True)
        number = direction - config_first  # of the scan in lam, w, u and h
        slice_ = image * image_step + group_index * group * channel_step
        channel, w_plane = channel_step * plane, sets * plane
        x_at = slice_ * plane + corner
        at = number * slices * plane + x_at
        weight_set = image * set_step if shared else slice_
        w_at = (number * 3 * sets + weight_set) * plane + corner
        grad_w_at = w_at + (group_index * directions * 3 * w_plane if partial else 0)

        tile = cuda.shared.array(0, float32)
        ahead = cuda.local.array(ahead_size, word)
        late = cuda.local.array(late_size, word)
        values = cuda.local.array(values_size, np.float32)
        line_values = cuda.local.array(line_size, np.float32)
        sums = cuda.local.array(sums_size, np.float32)
        back = cuda.local.array(run, np.float32)
        g = cuda.local.array(run, np.float32)
        beyond = cuda.local.array(run, np.float32)
        walking = thread < group * walkers
        of_group = np.int64(np.uint32(np.uint32(thread) // np.uint32(walkers)))
        walker = np.int64(np.uint32(np.uint32(thread) % np.uint32(walkers)))
        data, weight = of_group * tile_size + walker + 1, weights + walker + 1
        of_channel = of_group if walking else 0
        h_at = (number * slices + slice_ + of_channel * channel_step) * elements
        last_line = group * tile_size + of_group * h_size + tile_size + walker + 1

        for j in range(loads):
            fetch(ahead, j, thread, vertical, sign, rows, low, length,
                  at, w_at, channel, w_plane, grad, h, u, w)  # fmt: skip
        for j in range(thread, floats, threads):
            tile[np.uint64(j)] = np.float32(0)
        for e in range(run):
            back[e] = np.float32(0)
        half = np.int64(0)  # of the edges
        if parts > 1:
            cluster_arrive()
            cluster_wait()
        cuda.syncthreads()

        left = rows
        while left > 0:
            following = left - lines
            first = first + sign * lines
            fetch_line(beyond, walker * run, vertical, low, length, first,
                       walking and following > 0, h_at, h_values)  # fmt: skip
            for j in range(loads):
                stage(tile, ahead, j, thread, vertical, sign, left, low, length)
                if following > 0:
                    fetch(ahead, j, thread, vertical, sign, following, low, length,
                          at + jump, w_at + jump, channel, w_plane, grad, h, u, w)  # fmt: skip
            fetch_late(late, thread, vertical, sign, left, x_at, at, channel, x, lam, grad)
            cuda.syncthreads()
            walk(tile, line_values, back, g, data, weight, walker * run + low, length,
                 walking)  # fmt: skip
            if walking:
                for e in range(run):
                    tile[np.uint64(last_line + e * pitch)] = beyond[e]
            to = edges + (half * group + of_group) * line_pitch
            if parts > 1 and following > 0:
                if walking:
                    send_edges(tile, back, walker * run, to, vertical, part)
                cluster_arrive()
            cuda.syncthreads()
            write(tile, late, values, sums, thread, vertical, sign, left, at, grad_w_at, channel,
                  w_plane, grad_x, grad_lam, grad_u, grad_w)  # fmt: skip
            if parts > 1 and following > 0:
                cluster_wait()
                if walking:
                    for e in range(run):
                        back[e] = tile[np.uint64(to + walker + 1 + e * pitch)]
                half = 1 - half
            x_at, at, w_at = x_at + jump, at + jump, w_at + jump
            grad_w_at = grad_w_at + jump
            left = following
            cuda.syncthreads()

    return backward
