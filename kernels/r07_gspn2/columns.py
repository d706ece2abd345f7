"""Directions "right" and "left" without transposed copies: tiles are transposed during the scan.

A line of these scans is a column of the plane, so its elements are a row apart in memory. A block
reads tiles of eight columns and all rows. Eight columns are 32 bytes of each row, one sector, so no
byte is fetched twice. Four lanes read a row of the tile, two columns each, and write it to shared
memory column by column. At each step a thread reads its two rows of one column from there, and
leaves h in the place of x. Meanwhile the next tile is loaded into registers.

A warp's part of a column is 64 rows. In shared memory 4 unused elements follow them, so the lanes
that transpose a tile access different banks.

Source: ours; the tile transpose of "An Efficient Matrix Transpose in CUDA C/C++" (NVIDIA), fused
into the scan.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import cuda, float32

from gspn2bench.kernels.arithmetic import normalized, recurrence
from gspn2bench.kernels.contract import Call, Operands
from gspn2bench.kernels.jit import WARP, Array, bind_launch, device_function, kernel
from gspn2bench.kernels.launch_limits import registers_per_thread
from gspn2bench.kernels.operand_arrays import forward_arrays
from gspn2bench.problem import ScanProblem, ceil_div

COLUMNS: Final = 8
"""Columns of a tile, and scan steps per tile."""
PAIR: Final = 2
"""Columns per load of 8 bytes, and rows per thread."""
LANES: Final = COLUMNS // PAIR
"""Lanes that read one row of a tile."""
WARP_ROWS: Final = PAIR * WARP
LOADS: Final = WARP_ROWS * LANES // WARP
"""Loads per lane for one operand of a tile."""
PITCH: Final = WARP_ROWS + 4
OPERANDS: Final = 5  # x, lam, wl, wm, wr
OPERAND: Final = COLUMNS * PITCH
"""Elements of shared memory for one operand of a warp's part of a tile."""
WARP_TILE: Final = OPERANDS * OPERAND
"""Elements of shared memory for a warp's part of a tile."""
MAX_LINE: Final = 512
"""Rows up to which this is faster than transposed copies; 1024 would still fit in shared memory."""


def fits(problem: ScanProblem) -> bool:
    """Whether these kernels can run the problem."""
    return (
        not problem.vertical
        and problem.phase == "forward"
        and problem.dtype == "float32"
        and problem.line <= MAX_LINE
        and problem.width % PAIR == 0
        and (problem.chunks == 1 or problem.chunk_length % PAIR == 0)
    )


@cache
def build_forward(line: int, leftward: bool, shared: bool, logits: bool) -> Any:
    """Compile the kernel.

    Args:
        line: rows of the plane, at most MAX_LINE.
        leftward: whether the scan starts at the last column.
        shared: whether the channels share one set of weights.
        logits: whether the weights are given as logits.
    """
    threads = threads_of(line)
    sign = -1 if leftward else 1
    early, late = (1, 0) if leftward else (0, 1)  # columns of a pair in the order of the scan
    row_of_edges = threads + 2  # a zero at both ends
    two_rows = 2 * row_of_edges  # every thread's first row, then every thread's last
    edges_size, ahead_size = 2 * two_rows, OPERANDS * LOADS
    fetch = fetching(line, sign)

    @kernel("r07_tiled_forward", max_registers=registers_per_thread(threads))
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array,
        width: int, channels: int, chunk: int, chunks: int,
    ) -> None:  # fmt: skip
        thread = np.uint32(cuda.threadIdx.x)
        lane, warp = np.int64(thread % np.uint32(WARP)), np.int64(thread // np.uint32(WARP))
        slice_ = np.uint32(np.uint32(cuda.blockIdx.x) // np.uint32(chunks))
        begin = np.int64(np.uint32(cuda.blockIdx.x) % np.uint32(chunks)) * chunk
        pairs = (min(np.int64(chunk), width - begin)) // PAIR
        pitch = np.int64(width) // PAIR
        first_pair = (width - begin) // PAIR - 1 if leftward else begin // PAIR
        corner = np.int64(slice_) * line * pitch + first_pair
        weight_slice = slice_ // np.uint32(channels) if shared else slice_
        weight_corner = np.int64(weight_slice) * line * pitch + first_pair

        tile = cuda.shared.array(0, float32)
        edges = cuda.shared.array(edges_size, np.float32)
        ahead = cuda.local.array(ahead_size, np.uint64)
        halves = ahead.view(np.float32)
        result = cuda.local.array(1, np.uint64)
        both = result.view(np.float32)
        upper = lower = np.float32(0)  # h of the thread's two rows
        has_upper, has_lower = PAIR * thread < line, PAIR * thread + 1 < line
        for j in range(thread, edges_size, threads):
            edges[j] = np.float32(0)

        own_pair = lane % LANES  # the pair of a tile's columns that this lane moves
        pair = min(own_pair, pairs - 1)
        fetch(ahead, corner, weight_corner, warp, lane, pair, pitch, x, lam, wl, wm, wr)
        for start in range(0, pairs, LANES):
            cuda.syncthreads()  # the previous tile has been read
            for operand in range(OPERANDS):
                for i in range(LOADS):
                    row = i * (WARP // LANES) + lane // LANES
                    slot = place(warp, operand, PAIR * own_pair, row)
                    tile[slot] = halves[PAIR * (operand * LOADS + i) + early]
                    tile[slot + PITCH] = halves[PAIR * (operand * LOADS + i) + late]
            cuda.syncthreads()
            if start + LANES < pairs:
                pair = min(start + LANES + own_pair, pairs - 1)
                fetch(ahead, corner, weight_corner, warp, lane, pair, pitch, x, lam, wl, wm, wr)

            for column in range(COLUMNS):
                if start * PAIR + column < PAIR * pairs:
                    before, after = (column + 1) % 2 * two_rows, column % 2 * two_rows
                    above = edges[before + row_of_edges + thread]  # last row of the thread before
                    below = edges[before + thread + 2]  # first row of the next thread
                    slot = place(warp, 0, column, PAIR * lane)
                    lam_slot, wl_slot = slot + OPERAND, slot + 2 * OPERAND
                    wm_slot, wr_slot = slot + 3 * OPERAND, slot + 4 * OPERAND
                    left, middle, right = tile[wl_slot], tile[wm_slot], tile[wr_slot]
                    if logits:
                        left, middle, right = normalized(left, middle, right, thread > 0, has_lower)
                    new_upper = recurrence(
                        left, above, middle, upper, right, lower, tile[lam_slot], tile[slot]
                    )
                    left, middle, right = tile[wl_slot + 1], tile[wm_slot + 1], tile[wr_slot + 1]
                    if logits:
                        has_right = PAIR * thread + 2 < line
                        left, middle, right = normalized(left, middle, right, True, has_right)
                    new_lower = recurrence(
                        left, upper, middle, lower, right, below, tile[lam_slot + 1], tile[slot + 1]
                    )
                    upper = new_upper if has_upper else np.float32(0)
                    lower = new_lower if has_lower else np.float32(0)
                    edges[after + thread + 1] = upper
                    edges[after + row_of_edges + thread + 1] = lower
                    tile[slot] = upper
                    tile[slot + 1] = lower
                    cuda.syncthreads()

            for i in range(LOADS):
                row = i * (WARP // LANES) + lane // LANES
                if warp * WARP_ROWS + row < line and start + own_pair < pairs:
                    slot = place(warp, 0, PAIR * own_pair, row)
                    both[early] = tile[slot]
                    both[late] = tile[slot + PITCH]
                    target = corner + (warp * WARP_ROWS + row) * pitch + sign * (start + own_pair)
                    h[np.uint64(target)] = result[0]

    return forward


@device_function
def place(warp: int, operand: int, column: int, row: int) -> Any:
    """Index in shared memory of an element of a warp's part of the tile."""
    return warp * WARP_TILE + (operand * COLUMNS + column) * PITCH + row


def fetching(line: int, sign: int) -> Any:
    """The device function that starts the loads of a tile."""

    @device_function
    def fetch(
        ahead: Array, corner: int, weight_corner: int, warp: int, lane: int, pair: int, pitch: int,
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
    ) -> None:  # fmt: skip
        for i in range(LOADS):
            # lanes without a row load the last one: a branch would cost more
            row = min(warp * WARP_ROWS + i * (WARP // LANES) + lane // LANES, line - 1)
            offset = row * pitch + sign * pair
            index, weight_index = np.uint64(corner + offset), np.uint64(weight_corner + offset)
            ahead[i] = x[index]
            ahead[LOADS + i] = lam[index]
            ahead[2 * LOADS + i] = wl[weight_index]
            ahead[3 * LOADS + i] = wm[weight_index]
            ahead[4 * LOADS + i] = wr[weight_index]

    return fetch


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    """The call for a problem that ``fits``."""
    line = problem.line
    leftward, shared = problem.direction == "left", problem.weights == "shared"
    compiled = build_forward(line, leftward, shared, problem.logits)
    sizes = (problem.width, problem.channels, problem.chunk_length, problem.chunks)
    threads = threads_of(line)
    return bind_launch(
        compiled,
        problem.slices * problem.chunks,
        threads,
        *forward_arrays(operands, 4 * PAIR),
        *sizes,
        shared_bytes=threads // WARP * WARP_TILE * 4,
    )


def threads_of(line: int) -> int:
    """Threads per block: one for two rows, in whole warps."""
    return ceil_div(line, WARP_ROWS) * WARP
