"""r07 gspn2: one launch, tuned to the memory roofline.

Idea: a block owns a slice and walks its lines; a thread owns one column, or several on long lines,
so that a warp's loads are one run of addresses. The scan is a chain of H dependent steps, and a
load that starts when its step begins would pay the memory latency H times. So each thread keeps
the five operands of the next ``depth`` lines in a ring of registers, and asks for line i + depth
as soon as line i has been used. h stays on the chip: a thread's own columns in registers, its
neighbours' in two lines of shared memory that take turns, so that one barrier a line is enough.

Changes since r01: the loop is inside the kernel (one launch), lanes lie along the contiguous axis
(coalesced), h[i-1] never comes from global memory, loads run ``depth`` lines ahead.

Expect: launches 1; sectors per request 4; dram throughput at the copy ceiling where there are as
many slices as multiprocessors; stalls at the barrier, not on loads (long_scoreboard falls).

Source: arXiv 2512.07884, section 3.3. The ring of registers is ours.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from gspn2bench.kernels.contract import Call, Operands, Rung, one_launch
from gspn2bench.kernels.jit import WARP, Array, configure, device_function, flat, kernel
from gspn2bench.kernels.math import recurrence
from numba import cuda

from gspn2bench.problem import ScanProblem

MAX_THREADS = 1024
MAX_COLUMNS = 5
"""Columns a thread: two lines of 5 * 1024 floats are the most that 48 KB of shared memory hold."""
REGISTER_FILE = 65536


@dataclass(frozen=True)
class Config:
    """What the kernel is compiled for.

    Args:
        threads: threads of a block, a multiple of a warp.
        columns: columns a thread owns, ``threads`` apart.
        depth: lines held ahead in registers; even, so that a line's shared buffer is known when
            the loop over the ring is unrolled.
    """

    threads: int
    columns: int
    depth: int

    @property
    def max_registers(self) -> int:
        """Registers a thread, so that one block fits a multiprocessor."""
        return min(255, REGISTER_FILE // self.threads)


def choose(problem: ScanProblem) -> Config:
    """The configuration for a line's length.

    A ring costs 5 * depth * columns registers: 8 lines where a thread may have 128 registers,
    4 or 2 where a block of 1024 threads leaves it 64.
    """
    columns = -(-problem.width // MAX_THREADS)
    threads = -(-problem.width // (columns * WARP)) * WARP
    if columns == 1:
        return Config(threads, columns, depth=8 if threads <= MAX_THREADS // 2 else 4)
    return Config(threads, columns, depth=4 if columns == 2 else 2)


@device_function
def fetch(
    ring: Array, slot: int, at: int,
    x: Array, lam: Array, wl: Array, wm: Array, wr: Array,
) -> None:  # fmt: skip
    """Ask for the five operands of one element."""
    ring[slot] = x[at]
    ring[slot + 1] = lam[at]
    ring[slot + 2] = wl[at]
    ring[slot + 3] = wm[at]
    ring[slot + 4] = wr[at]


@cache
def build_forward(config: Config) -> Any:
    """Compile the kernel for one configuration."""
    threads, columns, depth = config.threads, config.columns, config.depth
    halo_line = threads * columns + 2  # one column of zeros on either side
    two_lines = 2 * halo_line
    ring_size = 5 * depth * columns

    @kernel("r07_gspn2_forward", max_registers=config.max_registers)
    def forward(
        x: Array, lam: Array, wl: Array, wm: Array, wr: Array, h: Array, height: int, width: int
    ) -> None:
        rows, pitch = np.uint32(height), np.uint64(width)
        thread, last = np.uint32(cuda.threadIdx.x), np.uint32(width - 1)
        ahead = np.uint64(depth) * pitch
        at = np.uint64(cuda.blockIdx.x) * np.uint64(height) * pitch + np.uint64(thread)
        line = cuda.shared.array(two_lines, np.float32)
        ring = cuda.local.array(ring_size, np.float32)
        own = cuda.local.array(columns, np.float32)

        # Zeros stand for h before row 0 and for the neighbours outside the row.
        for j in range(thread, two_lines, threads):
            line[j] = np.float32(0)
        for c in range(columns):
            own[c] = np.float32(0)
            for k in range(depth):
                if np.uint32(k) < rows and thread + c * threads <= last:
                    start = at + np.uint64(k) * pitch + np.uint64(c * threads)
                    fetch(ring, 5 * (k * columns + c), start, x, lam, wl, wm, wr)
        cuda.syncthreads()

        first = np.uint32(0)
        while first < rows:
            for k in range(depth):  # unrolled, so that the ring stays in registers
                row = np.uint32(first + np.uint32(k))
                if row < rows:
                    before, after = ((k + 1) % 2) * halo_line, (k % 2) * halo_line
                    for c in range(columns):
                        column = np.uint32(thread + np.uint32(c * threads))
                        if column <= last:
                            slot = 5 * (k * columns + c)
                            own[c] = recurrence(
                                ring[slot + 2], line[before + column],
                                ring[slot + 3], own[c],
                                ring[slot + 4], line[before + column + 2],
                                ring[slot + 1], ring[slot],
                            )  # fmt: skip
                            line[after + column + 1] = own[c]
                            here = at + np.uint64(c * threads)
                            h[here] = own[c]
                            if np.uint32(row + np.uint32(depth)) < rows:
                                fetch(ring, slot, here + ahead, x, lam, wl, wm, wr)
                    at += pitch
                    cuda.syncthreads()
            first = np.uint32(first + np.uint32(depth))

    return forward


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    config = choose(problem)
    compiled = build_forward(config)
    arrays = [flat(t) for t in (operands.x, operands.lam, *operands.w, operands.h)]

    def call() -> None:
        launch = configure(compiled, problem.slices, config.threads)
        launch(*arrays, problem.height, problem.width)

    return call


def supports(problem: ScanProblem) -> str | None:
    if problem.dtype != "float32":
        return f"dtype: {problem.dtype}; r07 stores float32"
    if problem.direction != "down":
        return f"direction: {problem.direction}; r07 scans down"
    if problem.weights != "channel":
        return "weights: shared; r07 has a set for each channel"
    if problem.chunk_length != problem.steps:
        return f"chunk: {problem.chunk_length}; r07 scans the whole length"
    if problem.width > MAX_COLUMNS * MAX_THREADS:
        return f"width: {problem.width} is above {MAX_COLUMNS * MAX_THREADS}, the longest line"
    return None


RUNG = Rung(
    id="r07",
    title="gspn2",
    idea="GSPN-2: one launch, coalesced, h on the chip, operands loaded lines ahead",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=bind_forward,
    launches=one_launch,
    supports=supports,
)
