"""The second launch of backward, where one block does not have all channels that share weights."""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import logit_gradients, normalized_with_sum
from gspn2bench.kernels.jit import Array, kernel
from gspn2bench.kernels.r09_quad.configuration import RIGHT
from gspn2bench.kernels.storage import storage

SUM_THREADS: Final = 256


@cache
def build_weight_gradient(dtype: str, logits: bool, first: int) -> Any:
    """Compile the kernel: a thread sums one position over the groups of channels, in their order.

    Args:
        dtype: storage type.
        logits: whether to return the gradients of logits.
        first: the first direction of the launch, an index of ``DIRECTIONS``.
    """
    load, store = storage(dtype)

    @kernel("r09_quad_weight_gradient")
    def weight_gradient(
        sums: Array, w: Array, grad_w: Array,
        height: int, width: int, images: int, directions: int, groups: int,
    ) -> None:  # fmt: skip
        index = np.int64(cuda.blockIdx.x) * SUM_THREADS + cuda.threadIdx.x
        planes = images * height * width  # elements of one weight of one direction
        if index >= directions * planes:
            return
        direction, element = index // planes, index % planes
        position = element % width if first + direction < RIGHT else element // width % height
        length = width if first + direction < RIGHT else height
        left_at = direction * 3 * planes + element
        middle_at, right_at = left_at + planes, left_at + 2 * planes
        left = middle = right = np.float32(0)
        for group in range(groups):
            start = group * directions * 3 * planes
            left += sums[np.uint64(start + left_at)]
            middle += sums[np.uint64(start + middle_at)]
            right += sums[np.uint64(start + right_at)]
        if logits:
            wl, wm, wr, sigmoids = normalized_with_sum(
                load(w, np.uint64(left_at)), load(w, np.uint64(middle_at)),
                load(w, np.uint64(right_at)), position > 0, position + 1 < length,
            )  # fmt: skip
            left, middle, right = logit_gradients(left, middle, right, wl, wm, wr, sigmoids)
        store(grad_w, np.uint64(left_at), left)
        store(grad_w, np.uint64(middle_at), middle)
        store(grad_w, np.uint64(right_at), right)

    return weight_gradient
