"""Directions "right" and "left" for kernels that scan "down" and "up": transpose, scan, undo.

A scan over the columns of a plane is a scan over the rows of its transpose. Every input is
transposed into a scratch tensor, the vertical kernel runs on the scratch tensors, and its outputs
are transposed back. All of this is part of the call, and is counted in its launches and bytes: one
launch per tensor, which reads and writes it once more than the scan does.

A block transposes a tile of 32 x 32 elements through shared memory, so a warp both reads and writes
32 consecutive elements. A row of the tile is padded to 33 elements, so the 32 elements of a column
are in 32 different banks.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import cuda

from gspn2bench.kernels.contract import INPUTS, OUTPUTS, Bind, Call, Operands, compulsory_traffic
from gspn2bench.kernels.jit import Array, bind_launch, flat, kernel
from gspn2bench.kernels.launch_limits import MAX_GRID
from gspn2bench.kernels.operand_arrays import scratch_tensor
from gspn2bench.problem import Direction, ScanProblem, ceil_div

TILE: Final = 32
ROWS: Final = 8
"""Rows of a tile that the 8 warps of a block move at once."""

_VERTICAL: Final[dict[Direction, Direction]] = {"right": "down", "left": "up"}


@cache
def build_transpose(item_bytes: int) -> Any:
    """Compile the kernel: each block transposes one tile of one plane."""
    bits = {4: np.float32, 2: np.uint16}[item_bytes]
    padded = TILE + 1
    tile_size = TILE * padded
    moves = TILE // ROWS

    @kernel("transpose_tile")
    def transpose(
        source: Array, target: Array, rows: int, columns: int, tiles_down: int, tiles_across: int
    ) -> None:
        tile = cuda.shared.array(tile_size, bits)
        lane = np.uint32(np.uint32(cuda.threadIdx.x) % np.uint32(TILE))
        warp = np.uint32(np.uint32(cuda.threadIdx.x) // np.uint32(TILE))
        # unsigned 32-bit divisions: 64-bit ones would take longer than the copy
        strip = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(tiles_across))
        side = np.uint32(np.uint32(cuda.blockIdx.x) % np.uint32(tiles_across)) * TILE
        top = np.uint32(strip % np.uint32(tiles_down)) * TILE
        start = np.int64(np.uint32(strip // np.uint32(tiles_down))) * rows * columns

        for k in range(moves):
            y = warp + k * ROWS
            if top + y < rows and side + lane < columns:
                index = start + (top + y) * columns + side + lane
                tile[y * padded + lane] = source[np.uint64(index)]
        cuda.syncthreads()
        for k in range(moves):
            y = warp + k * ROWS
            if side + y < columns and top + lane < rows:
                index = start + (side + y) * rows + top + lane
                target[np.uint64(index)] = tile[lane * padded + y]

    return transpose


def transposed(bind: Bind) -> Bind:
    """Extend a binding for "down" and "up" to every direction.

    Scratch tensors as large as the operands are allocated when the call is bound.
    """

    def bind_any(problem: ScanProblem, operands: Operands) -> Call:
        if problem.vertical:
            return bind(problem, operands)
        upright = replace(
            problem,
            height=problem.width,
            width=problem.height,
            direction=_VERTICAL[problem.direction],
        )
        scratch = _scratch(operands)
        scan = bind(upright, scratch)
        before = [
            _transpose(getattr(operands, name), getattr(scratch, name))
            for name in INPUTS[problem.phase]
        ]
        after = [
            _transpose(getattr(scratch, name), getattr(operands, name))
            for name in OUTPUTS[problem.phase]
        ]

        def call() -> None:
            for launch in (*before, scan, *after):
                launch()

        return call

    return bind_any


def transposed_launches(problem: ScanProblem) -> int:
    """Launches that transposes add to one call: one per tensor, none for "down" and "up"."""
    if problem.vertical:
        return 0
    return len(INPUTS[problem.phase]) + len(OUTPUTS[problem.phase])


def transposed_traffic(problem: ScanProblem) -> int:
    """Bytes that transposes add to one call: each operand is read and written once more."""
    return 0 if problem.vertical else 2 * compulsory_traffic(problem)


def tile_limit_reason(problem: ScanProblem) -> str | None:
    """Why a grid cannot have one block per tile of the largest tensor; None if it can."""
    weights = 3 * (problem.slices if problem.weights == "channel" else problem.batch)
    tiles = max(weights, problem.slices) * _tiles(problem.height) * _tiles(problem.width)
    if not problem.vertical and tiles > MAX_GRID:
        return f"direction: {problem.direction} takes {tiles} tiles, above {MAX_GRID} blocks"
    return None


def _scratch(operands: Operands) -> Operands:
    """Tensors for the transposed operands; NaN until written, like every scratch tensor."""
    tensors = {
        field.name: scratch_tensor(tensor, (*tensor.shape[:-2], *tensor.shape[:-3:-1]))
        for field in fields(operands)
        if (tensor := getattr(operands, field.name)) is not None
    }
    return Operands(**tensors)


def _transpose(source: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """The launch that writes every plane of ``source``, transposed, to ``target``."""
    rows, columns = source.shape[-2:]
    down, across = _tiles(rows), _tiles(columns)
    grid = source.numel() // (rows * columns) * down * across
    compiled = build_transpose(source.itemsize)
    arrays = [flat(t.view(torch.uint16) if t.itemsize == 2 else t) for t in (source, target)]
    return bind_launch(compiled, grid, TILE * ROWS, *arrays, rows, columns, down, across)


def _tiles(extent: int) -> int:
    return ceil_div(extent, TILE)
