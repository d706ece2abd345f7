"""Exchange between adjacent lanes of a warp, without memory; in the simulator too."""

from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels import simulated_block
from gspn2bench.kernels.jit import SIMULATED, WARP, device_function

ALL_LANES: Final = np.uint32(0xFFFFFFFF)


@device_function
def _neighbours(first: float, last: float) -> Any:
    left = cuda.shfl_up_sync(ALL_LANES, last, 1)
    right = cuda.shfl_down_sync(ALL_LANES, first, 1)
    return left, right


neighbours = simulated_block.neighbours if SIMULATED else _neighbours
"""(first, last) -> (left, right): ``last`` of the lane before and ``first`` of the next lane.

Lane 0 has no lane before and lane 31 no next one: they get their own value. Every lane calls it.
"""


@device_function
def _sync_warp() -> None:
    cuda.syncwarp()


sync_warp = simulated_block.sync if SIMULATED else _sync_warp
"""Wait until every lane of the warp is here; stores to shared memory before it are visible."""


@device_function
def _warp_number(thread: Any) -> Any:
    return np.uint32(cuda.shfl_sync(ALL_LANES, np.int32(thread // np.uint32(WARP)), 0))


def _simulated_warp_number(thread: Any) -> Any:
    return np.uint32(thread // np.uint32(WARP))


warp_number = _simulated_warp_number if SIMULATED else _warp_number
"""(thread) -> number of its warp, by a shuffle: the compiler then knows that it is uniform."""
