"""The shape of a block of r06: how many channels of an image it takes."""

from typing import Final

from gspn2bench.kernels.block_rung import Block, block_of
from gspn2bench.kernels.launch_limits import MAX_LINE, MAX_REGISTERS, MAX_THREADS, whole_warps
from gspn2bench.kernels.r05_block2d import MIN_BLOCKS
from gspn2bench.problem import ScanProblem, ceil_div

BLOCK_THREADS: Final = 512
"""Most threads in a block of several channels: each may use twice MAX_REGISTERS, as backward needs.
Only a block of one line of up to 1024 positions may be larger."""


def choose(problem: ScanProblem) -> Block:
    """Lanes for the whole line, and as many channels as fit while blocks stay many."""
    lanes = whole_warps(problem.line) if problem.line <= MAX_THREADS else BLOCK_THREADS
    spread = problem.slices * problem.chunks // MIN_BLOCKS
    fit = min(BLOCK_THREADS // lanes, (MAX_LINE + 2) // (problem.line + 2))
    return block_of(problem, lanes, max(1, min(fit, problem.channels, spread)))


def groups_of(problem: ScanProblem) -> int:
    """Blocks that share the channels of an image."""
    return ceil_div(problem.channels, choose(problem).cslice)


def max_registers(block: Block) -> int:
    """Registers per thread with which one block fits a multiprocessor."""
    return MAX_REGISTERS * (2 if block.lanes * block.cslice <= BLOCK_THREADS else 1)
