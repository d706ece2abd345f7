"""The second launch of r07's backward: the gradient of shared weights, summed over channels."""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda

from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.jit import Array, bind_launch, kernel
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import ScanProblem, ceil_div

SUM_THREADS: Final = 256


@cache
def build_weight_sum(dtype: str, upward: bool) -> Any:
    """Compile the kernel that sums g h over the channels, one position per thread."""
    kind = storage_of(dtype)
    widen, narrow = kind.widen, kind.narrow

    @kernel("r07_gspn2_weight_sum")
    def weight_sum(
        g: Array, h: Array, grad_wl: Array, grad_wm: Array, grad_wr: Array,
        height: int, width: int, channels: int, chunk: int, elements: int,
    ) -> None:  # fmt: skip
        element = np.int64(cuda.blockIdx.x) * SUM_THREADS + cuda.threadIdx.x
        if element >= elements:
            return
        column = element % width
        row = element // width % height
        image = element // width // height
        in_order = height - 1 - row if upward else row
        left = middle = right = np.float32(0)
        if in_order % chunk > 0:
            back = width if upward else -width
            for channel in range(channels):
                index = (image * channels + channel) * height * width + row * width + column
                gradient = g[np.uint64(index)]
                before = index + back
                if column > 0:
                    left += gradient * widen(h[np.uint64(before - 1)])
                middle += gradient * widen(h[np.uint64(before)])
                if column + 1 < width:
                    right += gradient * widen(h[np.uint64(before + 1)])
        grad_wl[np.uint64(element)] = narrow(left)
        grad_wm[np.uint64(element)] = narrow(middle)
        grad_wr[np.uint64(element)] = narrow(right)

    return weight_sum


def bind_weight_sum(problem: ScanProblem, upward: bool, g: Array, h: Array, *grad_w: Array) -> Call:
    """The launch that sums g h over the channels.

    Args:
        problem: backward, down or up.
        upward: whether the scan starts at the last row.
        g: the whole gradient of h, float32.
        h: hidden state.
        grad_w: gradients of the left, middle and right weights; written.
    """
    elements = problem.batch * problem.plane
    sizes = (problem.height, problem.width, problem.channels, problem.chunk_length, elements)
    compiled, grid = build_weight_sum(problem.dtype, upward), ceil_div(elements, SUM_THREADS)
    return bind_launch(compiled, grid, SUM_THREADS, g, h, *grad_w, *sizes)
