"""The constants that r07's kernels are compiled with, and how a problem's are chosen."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from gspn2bench.kernels.jit import WARP
from gspn2bench.kernels.launch_limits import MAX_THREADS
from gspn2bench.kernels.word_rung import WordBlock
from gspn2bench.problem import ITEM_BYTES, ScanProblem, ceil_div

MAX_WORDS: Final = 4
"""Words per thread: with more, the ring does not fit the 64 registers that 1024 threads leave."""
MAX_DEPTH: Final = 16
"""Lines ahead: more do not hide more latency."""
MAX_DEPTH_OF_LOGITS: Final = {"float32": 10, "float16": 8, "bfloat16": 10}
"""The same with logits, for two columns per thread: normalizing makes the loop longer."""
RING_REGISTERS: Final = {
    ("forward", "float32"): 80,
    ("forward", "float16"): 100,
    ("forward", "bfloat16"): 100,
    ("backward", "float32"): 56,
    ("backward", "float16"): 56,
    ("backward", "bfloat16"): 56,
}
"""Registers per thread for the ring, in a block of at most 512 threads."""
FORWARD_OPERANDS: Final = 5  # x, lam, wl, wm, wr
BACKWARD_OPERANDS: Final = 7  # grad_h, x, lam, wl, wm, wr, and h of the previous line


@dataclass(frozen=True)
class Config(WordBlock):
    """The constants that a kernel is compiled with, besides those of r06a to r06c.

    Args:
        words: adjacent words per thread.
        depth: lines in the ring; even, so the compiler knows which half of shared memory a line
            uses.
        logits: whether the weights are given as logits.
        cluster: blocks that sum the gradients of shared weights in one launch; 0 if none do.
    """

    words: int
    depth: int
    logits: bool
    cluster: int = 0

    @property
    def full(self) -> bool:
        """Whether every word of every thread is inside the line."""
        return self.line_words == self.threads * self.words


@cache
def choose(problem: ScanProblem) -> Config:
    """The configuration for a problem.

    Words are 8 bytes on long lines and 4 bytes on short ones: with wide words few warps meet at the
    barrier, and each has independent work. 16-bit types use 4 bytes in backward, which holds more
    in registers, and with logits, whose arithmetic makes the loop over the ring longer. Lines that
    do not fit a block get wider words first, then several words per thread.

    The ring takes as many lines as its registers allow, but at most an eighth of a chunk, so loads
    and arithmetic overlap for most of the scan.
    """
    item, forward = ITEM_BYTES[problem.dtype], problem.phase == "forward"
    light = forward and not problem.logits
    pack = (8 if problem.line > 256 and (light or item == 4) else 4) // item
    while problem.line > pack * MAX_THREADS and 2 * pack * item <= 8:
        pack *= 2
    while problem.line % pack:
        pack //= 2
    line_words = problem.line // pack
    words = ceil_div(line_words, MAX_THREADS)
    threads = ceil_div(line_words, words * WARP) * WARP
    operands = FORWARD_OPERANDS if forward else BACKWARD_OPERANDS
    registers = operands * words * max(1, pack * item // 4)  # of one line
    ring = RING_REGISTERS[problem.phase, problem.dtype]
    if threads > MAX_THREADS // 2:  # a thread has half of the registers
        ring = 4 * FORWARD_OPERANDS if forward else 2 * BACKWARD_OPERANDS
    max_depth = MAX_DEPTH_OF_LOGITS[problem.dtype] if problem.logits else MAX_DEPTH
    depth = min(ring // registers, problem.chunk_length // 8, max_depth)
    return Config(
        dtype=problem.dtype,
        line_words=line_words,
        threads=threads,
        pack=pack,
        upward=problem.direction in ("up", "left"),
        shared=problem.weights == "shared",
        words=words,
        depth=max(2, depth - depth % 2),
        logits=problem.logits,
    )
