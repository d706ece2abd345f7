"""What r06a to r06c share on the host: a block's constants, the launch and its limits.

In these rungs a thread owns the columns of one word, and a block has one chunk of one slice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import WARP, bind_launch
from gspn2bench.kernels.launch_limits import MAX_THREADS, grid_limit_reason, registers_per_thread
from gspn2bench.kernels.operand_arrays import forward_arrays
from gspn2bench.kernels.storage import word_type
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ITEM_BYTES, ScanProblem, ceil_div


@dataclass(frozen=True)
class WordBlock:
    """The constants that a kernel is compiled with.

    Args:
        dtype: storage type.
        line_words: words per line; as a constant it makes the distance between lines one too.
        threads: threads per block, a multiple of a warp.
        pack: columns per word, and so per load.
        upward: whether the scan starts at the last row.
        shared: whether the channels share one set of weights.
    """

    dtype: str
    line_words: int
    threads: int
    pack: int
    upward: bool
    shared: bool

    @property
    def word_bytes(self) -> int:
        """Bytes per load."""
        return self.pack * ITEM_BYTES[self.dtype]

    @property
    def word_type(self) -> Any:
        """NumPy type of a word."""
        return word_type(self.dtype, self.pack)

    @property
    def full(self) -> bool:
        """Whether every thread has a word inside the line."""
        return self.line_words == self.threads

    @property
    def longest_line(self) -> int:
        """Most columns of a line: above, a thread has too few registers for a ring of words."""
        return MAX_THREADS * 4 // max(4, self.word_bytes) * self.pack

    @property
    def max_registers(self) -> int:
        """Registers per thread with which one block fits a multiprocessor."""
        return registers_per_thread(self.threads)


def choose(problem: ScanProblem) -> WordBlock:
    """The widest words, up to 8 bytes, that divide the line."""
    pack = 8 // ITEM_BYTES[problem.dtype]
    while problem.line % pack:
        pack //= 2
    line_words = problem.line // pack
    return WordBlock(
        problem.dtype,
        line_words,
        ceil_div(line_words, WARP) * WARP,
        pack,
        upward=problem.direction in ("up", "left"),
        shared=problem.weights == "shared",
    )


def word_rung(
    *,
    id: str,  # noqa: A002
    title: str,
    idea: str,
    source: str,
    build: Callable[[WordBlock], Any],
) -> Rung:
    """A rung of one forward launch, with weights per channel or shared.

    Args:
        id: see ``Rung``, as for ``title``, ``idea`` and ``source``.
        title: see ``Rung``.
        idea: see ``Rung``.
        source: see ``Rung``.
        build: compiles the kernel.
    """

    def forward(problem: ScanProblem, operands: Operands) -> Call:
        block = choose(problem)
        sizes = problem.height, problem.channels, problem.chunk_length, problem.chunks
        arrays = forward_arrays(operands, block.word_bytes)
        grid = problem.slices * problem.chunks
        return bind_launch(build(block), grid, block.threads, *arrays, *sizes)

    def unsupported_reason(problem: ScanProblem) -> str | None:
        block = choose(problem)
        if problem.line > block.longest_line:
            field = "width" if problem.vertical else "height"
            limit = f"{block.longest_line}, the most for words of {block.word_bytes} bytes"
            return f"{field}: {problem.line} is above {limit}"
        return grid_limit_reason(problem) or tile_limit_reason(problem)

    return Rung(
        id=id,
        title=title,
        idea=idea,
        source=source,
        native="down",
        forward=transposed(forward),
        launches=lambda problem: 1 + transposed_launches(problem),
        unsupported_reason=unsupported_reason,
        traffic=lambda problem: compulsory_traffic(problem) + transposed_traffic(problem),
    )
