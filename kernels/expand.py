"""Project a few planes to tokens: tokens[p,c] = bias[c] + sum over k of planes[k,p] weight[k,c].

Idea: a product with few planes takes as long as writing the tokens. A thread owns one word of
channels (four 16-bit values, two float32) and keeps its weights and bias in registers. A block
stages the planes of a tile of positions in shared memory as float32. It walks the positions: all
threads read the same K values, and each stores one word.

Counted per position and warp, K = 8, 16-bit types: 32 multiply-adds, 2 loads of four values, 2
conversions, 1 store; 45 instructions with addresses and the loop. With 131,072 positions of 768
channels a scheduler of an H100 issues 67,000 instructions in 38 us. Writing the tokens takes 67 us,
so memory is the limit. From K = 16 on it is arithmetic, and a product on tensor cores is faster.

Source: ours.
"""

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import cuda

from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.expand_block import ExpandBlock
from gspn2bench.kernels.jit import Array, bind_launch, device_function, flat, kernel
from gspn2bench.kernels.launch_limits import MAX_GRID
from gspn2bench.kernels.storage import storage, words
from gspn2bench.problem import ceil_div

MAX_PLANES: Final = 32
"""Most planes: a thread has a register per plane and channel of its word."""
ENOUGH_BLOCKS: Final = 512
"""Blocks that occupy a GPU; with fewer, a block gets fewer positions than it can stage."""


@cache
def build(block: ExpandBlock) -> Any:
    """Compile the kernel: each block computes one part of the channels of a run of positions."""
    inner, pack, tile, token_words = block.planes, block.pack, block.tile, block.token_words
    threads, width, lanes, parts = block.threads, block.width, block.lanes, block.parts
    has_bias, streaming = block.has_bias, block.streaming
    staged, weights, stride = tile * inner, inner * pack, np.uint64(block.lanes * token_words)
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

    @kernel("expand_planes", max_registers=block.max_registers)
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
        stop = min(first + span, positions)
        computes = lane < lanes and word < token_words
        if computes:
            for k in range(inner):
                piece = weight[np.uint64(k * token_words + word)]
                for i in range(pack):
                    own[k * pack + i] = unpack(piece, i)
            piece = bias[np.uint64(word)]
            for i in range(pack):
                origin[i] = unpack(piece, i) if has_bias else np.float32(0)

        while first < stop:
            count = np.uint32(min(tile, stop - first))
            j = np.uint32(cuda.threadIdx.x)
            while j < count:
                for k in range(inner):
                    source = np.uint64(k * positions + first + j)
                    y[np.uint64(j) * np.uint64(inner) + np.uint64(k)] = load(planes, source)
                j = np.uint32(j + np.uint32(threads))
            cuda.syncthreads()
            if computes:
                index = np.uint64((first + lane) * token_words + word)
                j = lane
                while j < count:
                    result = product(y, j, own, origin, total)
                    if streaming:
                        cuda.stcs(tokens, index, result)
                    else:
                        tokens[index] = result
                    index += stride
                    j = np.uint32(j + np.uint32(lanes))
            cuda.syncthreads()
            first += tile

    return expand


def unsupported_reason(planes: int, positions: int, channels: int, dtype: str) -> str | None:
    """Why the kernel can't run a product of these sizes; None if it can."""
    for name, size in (("planes", planes), ("positions", positions), ("channels", channels)):
        if size < 1:
            return f"{name}: {size} is below 1"
    if planes > MAX_PLANES:
        return f"planes: {planes} is above {MAX_PLANES}"
    block = ExpandBlock(dtype, planes, channels, has_bias=False)
    blocks = ceil_div(positions, _span(block, positions)) * block.parts
    if blocks > MAX_GRID:
        return f"positions: {positions} take {blocks} blocks, above {MAX_GRID}, the largest grid"
    return None


def bind_expand(
    planes: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, tokens: torch.Tensor
) -> Call:
    """Bind the product; one launch.

    All tensors are contiguous and have one type and device. Sums are float32, from the bias on, in
    the order of the planes.

    Args:
        planes: (K, P).
        weight: (K, C), the transpose of a linear layer's.
        bias: (C,), or None.
        tokens: output, (P, C).

    Raises:
        ValueError: a size is not supported, or a tensor's memory does not begin at a multiple of
            the bytes per word.
    """
    (inner, positions), channels = planes.shape, tokens.shape[1]
    dtype = str(planes.dtype).removeprefix("torch.")
    reason = unsupported_reason(inner, positions, channels, dtype)
    if reason is not None:
        raise ValueError(reason)
    block = ExpandBlock(dtype, inner, channels, bias is not None)
    operands = {"weight": weight, "bias": weight if bias is None else bias, "tokens": tokens}
    for name, tensor in operands.items():
        if tensor.data_ptr() % block.word_bytes:
            raise ValueError(f"{name}: address is not a multiple of {block.word_bytes} bytes")
    span = _span(block, positions)
    arrays = [flat(planes), *(flat(tensor, block.word_bytes) for tensor in operands.values())]
    grid = ceil_div(positions, span) * block.parts
    return bind_launch(build(block), grid, block.threads, *arrays, positions, span)


def _span(block: ExpandBlock, positions: int) -> int:
    """Positions per block."""
    return min(block.tile, max(block.lanes, ceil_div(positions * block.parts, ENOUGH_BLOCKS)))
