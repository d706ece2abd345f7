"""The constants that r09's kernels are compiled with, and how a problem's are chosen."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import gcd
from typing import Any, Final

from gspn2bench.kernels.cluster import MAX_CLUSTER, MAX_SHARED_BYTES
from gspn2bench.kernels.four import FourProblem
from gspn2bench.kernels.jit import SIMULATED, WARP
from gspn2bench.kernels.launch_limits import registers_per_thread, whole_warps
from gspn2bench.kernels.r09_quad.slots import Slots, choose_slots
from gspn2bench.kernels.storage import word_type
from gspn2bench.problem import DIRECTIONS, ITEM_BYTES, ceil_div

RIGHT: Final = DIRECTIONS.index("right")
"""The first direction that scans columns, as the grid counts directions."""
MAX_GROUP: Final = 8
"""Channels that a block scans side by side."""
MAX_RUN: Final = 8
"""Positions per thread of the walk."""
MAX_LOADS: Final = 4
"""Words per thread and tensor of a tile: with 8, the compiler does not unroll the loop."""
MAX_LOADS_OF_GROUP: Final = {"forward": 8, "backward": 4}
"""The same, times the channels of the group: with more, the words of a tile leave registers."""
TILE_BYTES: Final = 64
"""Bytes of a row in a tile of columns: two sectors, the unit in which DRAM is read."""
FEW_LOADS: Final = 2
"""Words per thread and tensor up to which a tile of ``TILE_BYTES`` is faster than one of half."""
THREADS: Final = (640, 1024)
"""Most threads per block. With 640 a thread has 96 registers; with more threads 64."""
OTHER_REGISTERS: Final = 24
"""Registers per thread besides those of the next tile's words."""
ONE_WAVE: Final = {"forward": 132, "backward": 100}
"""Blocks that run at once, one per SM of an H100 or H200. Backward takes fewer and larger groups,
because a second launch reads the sums of every group."""
LONG_LINE: Final = 1024
"""Positions from which a cluster of blocks divides a line."""


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
        with_bias: whether forward adds a bias to x, lam, u and w.
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
    with_bias: bool
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
        return word_type(self.dtype, self.pack)

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

    A cluster divides long lines. A tile has as many lines as fill ``TILE_BYTES``, or fewer where
    they do not fit or the scan is shorter. A block has the fewest channels with which all blocks
    run at once: more blocks would wait for the first, fewer would leave SMs idle. If even the
    largest group has too many blocks, a block takes as many channels as fit, so weights are
    normalized as rarely as possible.

    Raises:
        ValueError: no tile fits in shared memory; the message names the length of the line.
    """
    scan = problem.scan
    clusters = (MAX_CLUSTER, 1) if problem.line >= LONG_LINE and not SIMULATED else (1,)
    longest = min(problem.steps, scan.chunk or problem.steps)
    lines = min(TILE_BYTES // ITEM_BYTES[scan.dtype], 1 << (longest - 1).bit_length())
    halved = [lines >> shift for shift in range(lines.bit_length())]
    tiles = [*product(clusters, THREADS[:1], halved[:2], (FEW_LOADS,))]
    tiles += product(clusters, THREADS, halved, (MAX_LOADS,))
    for parts, threads, count, loads in tiles:
        fitting = [
            config
            for group in range(1, MAX_GROUP + 1)
            if (config := _of_tile(problem, parts, threads, count, group)) is not None
            and config.loads <= loads
        ]
        if fitting:
            at_once = (c for c in fitting if blocks(problem, c) <= ONE_WAVE[scan.phase])
            return next(at_once, fitting[-1])
    line = problem.line
    raise ValueError(f"height or width: a tile of lines of {line} does not fit in shared memory")


def blocks(problem: FourProblem, config: Config) -> int:
    """Blocks of the grid: one per image, chunk, direction, group of channels, and part."""
    scan = problem.scan
    chunks = ceil_div(problem.steps, scan.chunk or problem.steps)
    groups = scan.channels // config.group
    return scan.batch * chunks * config.directions * groups * config.parts


def _of_tile(
    problem: FourProblem, parts: int, max_threads: int, lines: int, group: int
) -> Config | None:
    """The configuration with a tile of this size, or None if there is none."""
    scan, line = problem.scan, problem.line
    shared = scan.weights == "shared"
    pack = gcd(scan.width, 8 // ITEM_BYTES[scan.dtype], scan.chunk or 8, lines)
    if scan.channels % group or (group > 1 and not shared):
        return None
    if parts > 1 and (
        2 * lines > line // parts or scan.width % (parts * pack) or scan.height % parts
    ):
        return None
    span = line // parts + (2 * lines if parts > 1 else 0)
    words = span * lines // pack
    run = 2
    while group * ceil_div(span, run) > max_threads and run < MAX_RUN:
        run *= 2
    threads = max(ceil_div(words, ceil_div(words, max_threads)), group * ceil_div(span, run))
    config = Config(
        scan.dtype, scan.height, scan.width, shared, problem.logits, problem.with_u,
        problem.with_h, problem.with_bias, group, pack, lines, run, whole_warps(threads), parts,
        problem.first, len(problem.directions),
    )  # fmt: skip
    return config if _fits(config, scan.phase) else None


def _fits(config: Config, phase: str) -> bool:
    """Whether a block has enough threads, registers and shared memory."""
    tensors = 3 + (2 if phase == "forward" else 4) * config.group
    registers = config.loads * tensors * max(1, config.word_bytes // 4)
    return (
        config.group * config.walkers <= config.threads
        and config.loads <= MAX_LOADS
        and (config.group == 1 or config.loads * config.group <= MAX_LOADS_OF_GROUP[phase])
        and registers + OTHER_REGISTERS <= config.max_registers
        and 4 * shared_floats(config, phase) <= MAX_SHARED_BYTES
    )
