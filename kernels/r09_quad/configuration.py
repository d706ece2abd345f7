"""The constants that r09's kernels are compiled with, and how a problem's are chosen."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import gcd
from typing import Any, Final

import numpy as np

from gspn2bench.kernels.four import FourProblem
from gspn2bench.kernels.jit import SIMULATED, WARP
from gspn2bench.kernels.launch_limits import registers_per_thread, whole_warps
from gspn2bench.kernels.r09_quad.slots import Slots, choose_slots
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import DIRECTIONS, ITEM_BYTES, ceil_div

DOWN, UP, RIGHT, LEFT = range(len(DIRECTIONS))
"""Directions as the grid counts them."""
MAX_SHARED_BYTES: Final = 227 * 1024
"""Shared memory that a block of an H100 can have."""
MAX_GROUP: Final = 8
"""Channels that a block scans side by side."""
MAX_RUN: Final = 8
"""Positions per thread of the walk."""
MAX_LOADS: Final = 4
"""Words per thread and tensor of a tile: with 8, the compiler does not unroll the loop."""
LINES: Final = (32, 16, 8, 4, 2, 1)
"""Lines per tile."""
THREADS: Final = (256, 512, 1024)
"""Threads per block."""
OTHER_REGISTERS: Final = 24
"""Registers per thread besides those of the next tile's words."""
LONG_LINE: Final = 1024
"""Positions from which a cluster of blocks divides a line."""
PARTS: Final = 8
"""Blocks of such a cluster: the most that every GPU with clusters can run."""


@dataclass(frozen=True)
class Config:
    """The constants that a kernel is compiled with.

    Args:
        dtype: storage type.
        height: rows of a plane.
        width: columns of a plane.
        shared: whether the channels share one set of weights.
        logits: whether the weights are given as logits.
        with_u: whether forward writes u h, and backward takes its gradient.
        with_h: whether forward writes h.
        group: channels per block. Channels of one block share their weights.
        pack: values per word. It divides the width, the chunk, and the lines of a tile.
        lines: lines per tile.
        run: adjacent positions per thread of the walk, a power of two.
        threads: threads per block.
        parts: blocks of the cluster that divides a line; 1 if there is no cluster.
        first: the first direction of the launch, an index of ``DIRECTIONS``.
        directions: number of directions of the launch, 1 or 4.
    """

    dtype: str
    height: int
    width: int
    shared: bool
    logits: bool
    with_u: bool
    with_h: bool
    group: int
    pack: int
    lines: int
    run: int
    threads: int
    parts: int
    first: int
    directions: int

    @property
    def halo(self) -> int:
        """Positions of a neighbouring part, on either side, that a part computes as well."""
        return self.lines if self.parts > 1 else 0

    @property
    def row_span(self) -> int:
        """Positions of a row that a block computes, with its halo; 0 if no direction has rows."""
        return self._span(self.width) if self.first < RIGHT else 0

    @property
    def column_span(self) -> int:
        """The same for a column."""
        return self._span(self.height) if self.first + self.directions > RIGHT else 0

    @property
    def span(self) -> int:
        """The longer of ``row_span`` and ``column_span``."""
        return max(self.row_span, self.column_span)

    @property
    def walkers(self) -> int:
        """Threads that walk the lines of one channel."""
        return ceil_div(self.span, self.run)

    @property
    def one_warp(self) -> bool:
        """Whether the line of a channel lies within one warp, so the walk needs no barrier."""
        return WARP % self.walkers == 0

    @property
    def loads(self) -> int:
        """Words per thread and tensor of a tile."""
        return ceil_div(self.span * self.lines // self.pack, self.threads)

    @property
    def word_bytes(self) -> int:
        """Bytes per load."""
        return self.pack * ITEM_BYTES[self.dtype]

    @property
    def word_type(self) -> Any:
        """NumPy type of a word."""
        unsigned = {4: np.uint32, 8: np.uint64}
        return storage_of(self.dtype).raw if self.pack == 1 else unsigned[self.word_bytes]

    @property
    def slots(self) -> Slots:
        """The distances between elements of a tile in shared memory."""
        row_words = max(1, self.row_span // self.pack)
        return choose_slots(self.walkers, self.run, self.pack, row_words, self.lines // self.pack)

    @property
    def tile(self) -> int:
        """Float32 values of one tensor's tile in shared memory."""
        return self.lines * self.slots.line

    @property
    def max_registers(self) -> int:
        """Registers per thread with which one block fits a multiprocessor."""
        return registers_per_thread(whole_warps(self.threads))

    def _span(self, line: int) -> int:
        return line // self.parts + 2 * self.halo


def shared_floats(config: Config, phase: str) -> int:
    """Float32 values of a block's shared memory.

    Forward has a tile of h per channel and three of weights. Backward has a tile of g and one of h
    per channel, and three of weights; h has one line more, and logits a fourth tile of weights.
    """
    edges = 2 * config.group if config.parts > 1 else 0
    if phase == "forward":
        lines = (config.group + 3) * config.lines
    else:
        lines = config.group * (2 * config.lines + 1) + (4 if config.logits else 3) * config.lines
    return (lines + edges) * config.slots.line


@cache
def choose(problem: FourProblem) -> Config:
    """The configuration for a problem.

    A block takes as many of the channels that share weights as fit, so weights are normalized as
    few times as possible; then as many lines per tile as fit. A cluster divides long lines.

    Raises:
        ValueError: no tile fits in shared memory; the message names the length of the line.
    """
    config = next(candidates(problem), None)
    if config is None:
        line = problem.line
        raise ValueError(f"height or width: a tile of lines of {line} does not fit in shared memory")
    return config


def candidates(problem: FourProblem) -> Iterator[Config]:
    """Configurations that fit a block, in the order of preference."""
    scan = problem.scan
    shared = scan.weights == "shared"
    groups = [g for g in range(MAX_GROUP, 0, -1) if scan.channels % g == 0] if shared else [1]
    parts = (PARTS, 1) if problem.line >= LONG_LINE and not SIMULATED else (1,)
    for part, group, lines in product(parts, groups, LINES):
        for config in _of_tile(problem, part, group, lines):
            if _fits(config, scan.phase):
                yield config


def _of_tile(problem: FourProblem, parts: int, group: int, lines: int) -> Iterator[Config]:
    """Configurations of one tile: words, positions per thread and threads per block."""
    scan, line = problem.scan, problem.line
    item = ITEM_BYTES[scan.dtype]
    widest = gcd(scan.width, 8 // item, scan.chunk or 8)
    if parts > 1 and 2 * lines > line // parts:
        return
    for pack, threads in product((4, 2, 1), THREADS):
        if pack > widest or lines % pack:
            continue
        if parts > 1 and (scan.width % (parts * pack) or scan.height % parts):
            continue
        span = line // parts + (2 * lines if parts > 1 else 0)
        run = 4 if 2 * WARP < span <= 4 * WARP else 2
        while group * ceil_div(span, run) > threads and run < MAX_RUN:
            run *= 2
        yield Config(
            scan.dtype, scan.height, scan.width, scan.weights == "shared", problem.logits,
            problem.with_u, problem.with_h, group, pack, lines, run, threads, parts,
            problem.first, len(problem.directions),
        )  # fmt: skip


def _fits(config: Config, phase: str) -> bool:
    """Whether a block has enough threads, registers and shared memory."""
    tensors = 3 + (2 if phase == "forward" else 4) * config.group
    registers = config.loads * tensors * max(1, config.word_bytes // 4)
    return (
        config.group * config.walkers <= config.threads
        and config.loads <= MAX_LOADS
        and registers + OTHER_REGISTERS <= config.max_registers
        and 4 * shared_floats(config, phase) <= MAX_SHARED_BYTES
    )
