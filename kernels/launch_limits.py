"""Limits of a launch: threads and registers of a block, blocks of a grid, shared memory."""

from typing import Final

from gspn2bench.kernels.jit import WARP, device_function
from gspn2bench.problem import ScanProblem, ceil_div

MAX_THREADS: Final = 1024
"""Threads of a block."""
MAX_GRID: Final = 2**31 - 1
"""Blocks of a grid along x: enough for every case that fits a GPU, in one launch."""
MAX_LINE: Final = 48 * 1024 // (2 * 4) - 2
"""Longest line that fits twice in 48 KB of shared memory as float32, with a zero at both ends."""


def registers_per_thread(threads: int) -> int:
    """Registers that each thread may use if a block of this size is to fit a multiprocessor.

    A multiprocessor's 65,536 registers are in four partitions. A warp takes its registers from one
    partition, in units of 8 per thread.
    """
    warps_per_partition = ceil_div(threads, 4 * WARP)
    return min(255, 65_536 // 4 // (warps_per_partition * WARP) // 8 * 8)


MAX_REGISTERS: Final = registers_per_thread(MAX_THREADS)
"""Registers that a thread of a block of any size may use."""


def whole_warps(threads: int) -> int:
    """Threads of a block, rounded up to whole warps, at most MAX_THREADS."""
    return min(MAX_THREADS, ceil_div(threads, WARP) * WARP)


passes_of: Final = device_function(ceil_div)
"""Passes of a block over a line, in a kernel: (positions, threads) -> positions per thread."""


def grid_limit_reason(problem: ScanProblem) -> str | None:
    """Why a grid cannot have one block per slice and chunk; None if it can."""
    blocks = problem.slices * problem.chunks
    if blocks > MAX_GRID:
        return f"batch * channels * chunks: {blocks} is above {MAX_GRID}, the largest grid"
    return None


def line_limit_reason(problem: ScanProblem) -> str | None:
    """Why two lines of the problem do not fit in shared memory; None if they do."""
    if problem.line > MAX_LINE:
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {MAX_LINE}, two lines in 48 KB of shared memory"
    return None
