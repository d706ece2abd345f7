"""The constants that r08's kernels are compiled with, and how a problem's are chosen."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gspn2bench.kernels.cluster import MAX_SHARED_BYTES
from gspn2bench.kernels.jit import SIMULATED, WARP
from gspn2bench.kernels.launch_limits import registers_per_thread
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import ITEM_BYTES, ScanProblem, ceil_div

HALO_LANES: Final = 8
"""Lanes of a warp on either side whose columns a neighbouring warp owns."""
OWN_LANES: Final = WARP - 2 * HALO_LANES
"""Lanes whose columns the warp owns."""
MAX_BLOCKS: Final = 16
"""Blocks per slice: the largest cluster of an H100 or H200."""
MIN_COLUMNS: Final = 64
"""Columns per block: with fewer, the exchange takes longer than the lines between."""
SHAPES: Final = ((2, 2, 16, 4), (2, 4, 8, 2), (4, 16, 8, 2), (4, 16, 4, 2), (4, 16, 2, 2))
"""Columns per lane, most computing warps, lines per group, and fewest groups, by preference.

A lane with 2 columns takes less time per line, but up to 4 warps only: one for each quarter of a
multiprocessor. Between groups a warp waits, so groups are large where the ring holds four of them.
"""
MAX_WARPS_OF_LOGITS: Final = 8
"""Computing warps up to which logits leave registers for groups of more than two lines."""
FEW_WARPS: Final = {1: 4, 2: 4, 4: 2, 8: 2, 16: 2}
"""Computing warps up to which one producer keeps up, by the size of the cluster.

Large clusters are for few slices: fewer blocks then share the memory bandwidth.
"""
MAX_LINE: Final = 8192
"""Longest line: with more columns per block, a ring of two groups does not fit in shared memory."""
RESIDENT: Final = {
    "forward": {1: 132, 2: 132, 4: 64, 8: 64, 16: 64},
    "backward": {1: 132, 2: 132, 4: 128, 8: 64, 16: 64},
}
"""Most blocks of a grid, by the size of their cluster.

An H100 or H200 has 132 SMs. A cluster is placed within a group of 16 or 18 of them, so large
clusters leave some SMs idle: 15 clusters of 8 run at once, and 16 would take twice as long. Forward
with clusters of 4 was measured to be faster with 64 blocks of twice the columns.
"""
MAX_LINES: Final = 64
"""Lines of the ring: more do not hide more latency."""
OPERANDS: Final = {"forward": 5, "backward": 7}


@dataclass(frozen=True)
class Config:
    """The constants that a kernel is compiled with.

    Args:
        dtype: storage type.
        width: columns of a line.
        upward: whether the scan starts at the last row.
        shared: whether the channels share one set of weights.
        logits: whether the weights are given as logits.
        operands: tensors that are read: 5 in forward, 7 in backward, or 6 if the weights are
            shared, whose gradients a second launch sums.
        run: adjacent columns per lane, 2 or 4.
        warps: warps per block that compute; each owns a strip of columns.
        producers: warps per block that only load.
        blocks: blocks per slice and chunk; a cluster if there are several.
        lines: lines of the ring in shared memory, a multiple of ``group``.
        group: lines that a producer announces together.
    """

    dtype: str
    width: int
    upward: bool
    shared: bool
    logits: bool
    operands: int
    run: int
    warps: int
    producers: int
    blocks: int
    lines: int
    group: int

    @property
    def threads(self) -> int:
        """Threads per block."""
        return WARP * (self.warps + self.producers)

    @property
    def strip(self) -> int:
        """Columns that a warp owns."""
        return OWN_LANES * self.run

    @property
    def halo(self) -> int:
        """Columns of a neighbouring strip that a warp computes as well, on either side.

        This is also the number of lines between two exchanges.
        """
        return HALO_LANES * self.run

    @property
    def span(self) -> int:
        """Columns of a line that a block loads: its strips and a halo on either side."""
        return self.warps * self.strip + 2 * self.halo

    @property
    def line(self) -> int:
        """Values of a line in the ring: the span of every operand."""
        return self.operands * self.span

    @property
    def strips(self) -> int:
        """Strips of a line; the last ones may lie outside of it."""
        return self.blocks * self.warps

    @property
    def groups(self) -> int:
        """Groups of lines in the ring."""
        return self.lines // self.group

    @property
    def item_bytes(self) -> int:
        """Bytes of a stored value."""
        return ITEM_BYTES[self.dtype]

    @property
    def raw(self) -> Any:
        """NumPy type of a stored value."""
        return storage_of(self.dtype).raw

    @property
    def ring_bytes(self) -> int:
        """Dynamic shared memory of a block: the ring."""
        return self.lines * self.line * self.item_bytes

    @property
    def edges(self) -> int:
        """Float32 values of shared memory for the edges that neighbours send.

        Per warp there are two mailboxes, used in turn, with a halo for either side.
        """
        return self.warps * 4 * self.halo

    @property
    def barriers(self) -> int:
        """Mbarriers of a block: two per group of the ring, and one per mailbox."""
        return 2 * self.groups + 2 * self.warps

    @property
    def max_registers(self) -> int:
        """Registers per thread with which one block fits a multiprocessor."""
        return registers_per_thread(self.threads)


def largest_ring(config: Config, rows: int) -> int:
    """Lines of the largest ring that fits in shared memory and that a scan of ``rows`` can fill."""
    line_bytes = config.ring_bytes // config.lines
    free = MAX_SHARED_BYTES - 4 * config.edges - 8 * (2 * MAX_LINES + 2 * config.warps) - 64
    fitting = free // line_bytes // config.group * config.group
    useful = ceil_div(rows, config.group) * config.group
    return min(fitting, useful, MAX_LINES)


def of_shape(
    problem: ScanProblem,
    run: int,
    warps: int,
    blocks: int,
    producers: int,
    group: int,
    groups: int = 2,
) -> Config | None:
    """The configuration with this shape, and the largest ring.

    None if the ring does not hold ``groups`` groups of lines, or the whole chunk. The producers
    share the lines of a group evenly, and an exchange falls between two groups.
    """
    shared = problem.weights == "shared" and problem.channels > 1
    shape = Config(
        dtype=problem.dtype,
        width=problem.line,
        upward=problem.direction in ("up", "left"),
        shared=shared,
        logits=problem.logits,
        operands=OPERANDS[problem.phase] - (shared and problem.phase == "backward"),
        run=run,
        warps=warps,
        producers=producers,
        blocks=blocks,
        lines=group,
        group=group,
    )
    lines = largest_ring(shape, problem.chunk_length)
    enough = min(groups * group, ceil_div(problem.chunk_length, group) * group)
    fits = lines >= enough and shape.strips * shape.strip >= problem.line
    if not fits or group % producers or shape.halo % group:
        return None
    return Config(**{**shape.__dict__, "lines": lines})


@cache
def choose(problem: ScanProblem) -> Config:
    """The configuration for a problem.

    A slice gets as many blocks as run at once, because a block that waits for a place would double
    the time; and not more than leave each one ``MIN_COLUMNS``.

    Raises:
        ValueError: the line is longer than ``MAX_LINE``.
    """
    parts = problem.slices * problem.chunks
    blocks = 1 if SIMULATED else MAX_BLOCKS
    while blocks > 1 and (
        parts * blocks > RESIDENT[problem.phase][blocks]
        or ceil_div(problem.line, blocks) < MIN_COLUMNS
    ):
        blocks //= 2
    while blocks <= MAX_BLOCKS:
        for run, most_warps, group, groups in SHAPES:
            warps = ceil_div(problem.line, blocks * OWN_LANES * run)
            producers = 1 if SIMULATED or warps <= FEW_WARPS[blocks] else 2
            config = of_shape(problem, run, warps, blocks, producers, group, groups)
            spills = problem.logits and warps > MAX_WARPS_OF_LOGITS and group > 2
            if config is not None and warps <= most_warps and not spills:
                return config
        blocks *= 2
    raise ValueError(f"a line of {problem.line} does not fit: the longest is {MAX_LINE}")
