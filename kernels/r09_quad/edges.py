"""The edges of a part: where a cluster divides a line, its blocks exchange them after every tile.

A part also computes ``halo`` positions of its neighbours on either side, as many as a tile has
lines. So it needs nothing from them within a tile. After a tile these positions are wrong, and the
neighbours write the right values to this block's shared memory.
"""

from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels.cluster import remote_address, shared_address, store_remote
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r09_quad.configuration import Config
from gspn2bench.kernels.r09_quad.places import build_places


@cache
def build_send_edges(config: Config) -> Any:
    """Compile ``send_edges``: write a thread's values of a line where the next tile reads them.

    (tile, values, first, to, vertical, part): ``first`` is the thread's first position, and ``to``
    the index of the line of edges in shared memory, which is the same in every block.
    """
    run, halo, parts = config.run, config.halo, config.parts
    row_own, column_own = config.width // parts, config.height // parts
    _, _, slot, _ = build_places(config)

    @device_function
    def send_edges(
        tile: Array, values: Array, first: int, to: int, vertical: bool, part: int
    ) -> None:
        own = row_own if vertical else column_own
        base = shared_address(tile)
        for e in range(run):
            position = first + e
            if halo <= position < halo + own:
                tile[np.uint64(to + slot(position))] = values[e]
                if position < 2 * halo and part > 0:
                    place = np.uint32(base + np.uint32(4 * (to + slot(position + own))))
                    store_remote(remote_address(place, np.uint32(part - 1)), values[e])
                if position >= own and part + 1 < parts:
                    place = np.uint32(base + np.uint32(4 * (to + slot(position - own))))
                    store_remote(remote_address(place, np.uint32(part + 1)), values[e])

    return send_edges
