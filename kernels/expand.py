"""Project a few planes to tokens: tokens[p,c] = bias[c] + sum over k of planes[k,p] weight[k,c].

Idea: a product with few planes takes as long as writing the tokens. A thread owns one word of
channels (four 16-bit values, two float32) and keeps its weights and bias in registers. A block
stages the planes of a tile of positions in shared memory as float32. Then it walks the positions:
the threads of a token read the same K values, and each stores one word.

Counted per position and warp, K = 8, 16-bit types: 32 multiply-adds, 2 loads of four values, 2
conversions, 1 store; 45 instructions with addresses and the loop. With 131,072 positions of 768
channels a scheduler of an H100 issues 67,000 instructions in 38 us. Writing the tokens takes 63 us,
so memory is the limit. With 16 planes arithmetic is, and a product on tensor cores is faster.

Source: ours.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import cuda

from gspn2bench.kernels.expand_block import ExpandBlock
from gspn2bench.kernels.jit import (
    Array,
    ArrayType,
    device_function,
    kernel,
    prepare_launch,
    word_type,
)
from gspn2bench.kernels.launch_limits import MAX_GRID
from gspn2bench.kernels.storage import storage, words
from gspn2bench.problem import ceil_div

MAX_PLANES: Final = 16
"""Most planes: a thread has a register per plane and channel of its word."""


@cache
def build(block: ExpandBlock) -> Any:
    """Compile the kernel: each block computes one part of the channels of a tile of positions."""
    inner, pack, token_words, has_bias = block.planes, block.pack, block.token_words, block.has_bias
    width, lanes, parts = block.width, block.lanes, block.parts
    staged, weights, stride = block.tile * inner, inner * pack, np.uint64(lanes * token_words)
    load, _ = storage(block.dtype)
    unpack, join = words(block.dtype, pack)

    @device_function
    def product(y: Array, j: int, own: Array, origin: Array, total: Array) -> Any:
        for i in range(pack):
            total[i] = origin[i]
        for k in range(inner):
            value = y[np.uint64(j) * np.uint64(inner) + np.uint64(k)]
            for i in range(pack):
                total[i] += value * own[k * pack + i]
        return join(total, 0)

    @kernel("expand_planes")
    def expand(
        planes: Array, weight: Array, bias: Array, tokens: Array, positions: int, span: int
    ) -> None:
        y = cuda.shared.array(staged, np.float32)
        own = cuda.local.array(weights, np.float32)
        origin = cuda.local.array(pack, np.float32)
        total = cuda.local.array(pack, np.float32)
        lane = np.uint32(cuda.threadIdx.x // width)
        word = np.uint32(cuda.blockIdx.x % parts * width + cuda.threadIdx.x % width)
        first = cuda.blockIdx.x // parts * span
        count = np.uint32(min(span, positions - first))
        computes = lane < lanes and word < token_words
        if computes:
            for k in range(inner):
                piece = weight[np.uint64(k * token_words + word)]
                for i in range(pack):
                    own[k * pack + i] = unpack(piece, i)
            piece = bias[np.uint64(word)]
            for i in range(pack):
                origin[i] = unpack(piece, i) if has_bias else np.float32(0)

        j = np.uint32(cuda.threadIdx.x)
        if j < count:
            for k in range(inner):
                source = np.uint64(k * positions + first + j)
                y[np.uint64(j) * np.uint64(inner) + np.uint64(k)] = load(planes, source)
        cuda.syncthreads()

        if computes:
            index = np.uint64((first + lane) * token_words + word)
            j = lane
            while j < count:
                tokens[index] = product(y, j, own, origin, total)
                index += stride
                j = np.uint32(j + np.uint32(lanes))

    return expand


def unsupported_reason(planes: int, positions: int, channels: int, dtype: str) -> str | None:
    """Why the kernel can't run a product of these sizes; None if it can."""
    for name, size in (("planes", planes), ("positions", positions), ("channels", channels)):
        if size < 1:
            return f"{name}: {size} is below 1"
    if planes > MAX_PLANES:
        return f"planes: {planes} is above {MAX_PLANES}"
    blocks = _blocks(ExpandBlock(dtype, planes, channels, has_bias=False), positions)
    if blocks > MAX_GRID:
        return f"positions: {positions} take {blocks} blocks, above {MAX_GRID}, the largest grid"
    return None


def prepare_expand(
    planes: int, positions: int, channels: int, dtype: str, has_bias: bool
) -> Callable[..., None]:
    """Prepare the product; one launch.

    Sums are float32, from the bias on, in the order of the planes.

    Args:
        planes: K.
        positions: P.
        channels: C.
        dtype: storage type of all tensors.
        has_bias: whether there is a bias.

    Returns:
        The launch. It takes planes (K, P), the weight (K, C), the bias (C,) and the output (P, C),
        dense in this order of axes. All but the planes begin at a multiple of 8 bytes. Without a
        bias any other of these tensors is given in its place, which is not used.

    Raises:
        ValueError: a size is not supported.
    """
    reason = unsupported_reason(planes, positions, channels, dtype)
    if reason is not None:
        raise ValueError(reason)
    block = ExpandBlock(dtype, planes, channels, has_bias)
    value, word = (word_type(getattr(torch, dtype), size) for size in (None, block.word_bytes))
    rows = planes, 1, positions  # of the weight, the bias and the tokens
    arrays = [
        ArrayType(value, planes * positions),
        *(ArrayType(word, count * block.token_words) for count in rows),
    ]
    numbers = positions, block.span(positions)
    return prepare_launch(build(block), _blocks(block, positions), block.threads, arrays, numbers)


def _blocks(block: ExpandBlock, positions: int) -> int:
    return ceil_div(positions, block.span(positions)) * block.parts
