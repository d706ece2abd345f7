"""Forward of r09: load a tile, walk its lines, write it, while the next tile is on its way."""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32

from gspn2bench.kernels.cluster import cluster_arrive, cluster_wait
from gspn2bench.kernels.jit import Array, device_function, kernel
from gspn2bench.kernels.r09_quad.configuration import Config, shared_floats
from gspn2bench.kernels.r09_quad.edges import build_send_edges
from gspn2bench.kernels.r09_quad.forward_tile import (
    build_fetch,
    build_fetch_bias,
    build_stage,
    build_write,
)
from gspn2bench.kernels.r09_quad.places import build_block, build_line_barrier


@device_function
def advance(
    drive: float, wm: float, middle: float, wl: float, left: float, wr: float, right: float
) -> float:
    """One position of a line. ``drive`` is lam x; the operands that arrive last come last."""
    return drive + wm * middle + wl * left + wr * right


@cache
def build_walk(config: Config) -> Any:
    """Compile ``walk``, which computes the lines of a tile; h takes the place of lam x."""
    lines, run, tile_size = config.lines, config.run, config.tile
    pitch, line_pitch = config.slots
    barrier = build_line_barrier(config)

    @device_function
    def take(tile: Array, values: Array, data: int, weight: int) -> None:
        """Read lam x and the weights of a thread's positions."""
        for e in range(run):
            values[4 * e] = tile[np.uint64(data + e * pitch)]
            for i in range(3):
                values[4 * e + 1 + i] = tile[np.uint64(weight + i * tile_size + e * pitch)]

    @device_function
    def walk(
        tile: Array, values: Array, own: Array, sides: Array, data: int, weight: int, walking: bool
    ) -> None:
        if walking:
            take(tile, values, data, weight)
        for k in range(lines):
            line = data + k * line_pitch
            if walking:
                left = sides[0]
                for e in range(run):
                    middle = own[e]
                    right = own[e + 1] if e + 1 < run else sides[1]
                    own[e] = advance(
                        values[4 * e], values[4 * e + 2], middle,
                        values[4 * e + 1], left, values[4 * e + 3], right,
                    )  # fmt: skip
                    left = middle
                    tile[np.uint64(line + e * pitch)] = own[e]
                if k + 1 < lines:
                    take(tile, values, line + line_pitch, weight + (k + 1) * line_pitch)
            barrier()
            if walking:
                sides[0] = tile[np.uint64(line + (run - 1) * pitch - 1)]
                sides[1] = tile[np.uint64(line + 1)]

    return walk


@cache
def build_forward(config: Config) -> Any:
    """Compile the kernel for one configuration."""
    group, loads, threads, pack = config.group, config.loads, config.threads, config.pack
    lines, run, walkers, parts = config.lines, config.run, config.walkers, config.parts
    word, shared, with_u = config.word_type, config.shared, config.with_u
    height, width = config.height, config.width
    pitch, line_pitch = config.slots
    tile_size, floats = config.tile, shared_floats(config, "forward")
    weights = group * tile_size
    edges = weights + 3 * tile_size
    plane = height * width // pack
    block_of, start_of = build_block(config)
    fetch, fetch_u = build_fetch(config)
    fetch_bias = build_fetch_bias(config)
    stage, walk, write = build_stage(config), build_walk(config), build_write(config)
    send_edges = build_send_edges(config)
    ahead_size, scale_size = loads * (2 * group + 3), loads * group
    values_size, bias_size = max(4 * run, pack), 3 * group + 3

    @kernel("r09_quad_forward", max_registers=config.max_registers)
    def forward(
        x: Array, lam: Array, w: Array, u: Array, h: Array, y: Array, biases: Array,
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
        corner, jump, sign, low, length, _ = start_of(direction, part, begin, rows, False)
        number = direction - config_first  # of the scan in lam, w, u, h and y
        slice_ = image * image_step + group_index * group * channel_step
        channel, w_plane = channel_step * plane, sets * plane
        x_at = slice_ * plane + corner
        lam_at = number * slices * plane + x_at
        weight_set = image * set_step if shared else slice_
        w_at = (number * 3 * sets + weight_set) * plane + corner

        tile = cuda.shared.array(0, float32)
        ahead = cuda.local.array(ahead_size, word)
        scale = cuda.local.array(scale_size, word)
        values = cuda.local.array(values_size, np.float32)
        own = cuda.local.array(run, np.float32)
        sides = cuda.local.array(2, np.float32)  # h beside a thread's positions
        bias = cuda.local.array(bias_size, np.float32)
        walking = thread < group * walkers
        of_group = np.int64(np.uint32(np.uint32(thread) // np.uint32(walkers)))
        walker = np.int64(np.uint32(np.uint32(thread) % np.uint32(walkers)))
        data, weight = of_group * tile_size + walker + 1, weights + walker + 1

        for j in range(loads):
            fetch(ahead, j, thread, vertical, sign, rows, low, length,
                  x_at, lam_at, w_at, channel, w_plane, x, lam, w)  # fmt: skip
        fetch_bias(bias, number, group_index * group, groups * group, biases)
        for j in range(thread, floats, threads):
            tile[np.uint64(j)] = np.float32(0)
        for e in range(run):
            own[e] = np.float32(0)
        sides[0] = sides[1] = np.float32(0)
        half = np.int64(0)  # of the edges
        if parts > 1:
            cluster_arrive()
            cluster_wait()
        cuda.syncthreads()

        left = rows
        while left > 0:
            following = left - lines
            for j in range(loads):
                stage(tile, ahead, bias, j, thread, vertical, sign, left, low, length)
                if following > 0:
                    fetch(ahead, j, thread, vertical, sign, following, low, length,
                          x_at + jump, lam_at + jump, w_at + jump, channel, w_plane,
                          x, lam, w)  # fmt: skip
            if with_u:
                fetch_u(scale, thread, vertical, sign, left, lam_at, channel, u)
            cuda.syncthreads()
            walk(tile, values, own, sides, data, weight, walking)
            to = edges + (half * group + of_group) * line_pitch
            if parts > 1 and following > 0:
                if walking:
                    send_edges(tile, own, walker * run, to, vertical, part)
                cluster_arrive()
            cuda.syncthreads()
            write(tile, scale, bias, values, thread, vertical, sign, left, lam_at, channel, h, y)
            if parts > 1 and following > 0:
                cluster_wait()
                if walking:
                    for e in range(run):
                        own[e] = tile[np.uint64(to + walker + 1 + e * pitch)]
                    sides[0] = tile[np.uint64(to + walker + (run - 1) * pitch)]
                    sides[1] = tile[np.uint64(to + walker + 2)]
                half = 1 - half
            x_at, lam_at, w_at = x_at + jump, lam_at + jump, w_at + jump
            left = following
            cuda.syncthreads()

    config_first = config.first
    return forward
