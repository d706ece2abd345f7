"""The rung that ``rung="auto"`` stands for: r07, r08 or r09, the fastest one by measurements.

r09 scans four directions in one launch, and is the fastest where lines are short. r07 has a block
for each slice and chunk. With few of them most multiprocessors are idle, and r08, which divides a
slice among several blocks, is faster.

The constants are fitted to recorded sweeps of the scenarios small and four, on cards of 132
multiprocessors. ``python -m tests.helpers.choice_losses RUN ...`` prints the loss on each case, and
constants that fit the runs. A test holds the rule to the runs that are committed.
"""

from functools import lru_cache
from typing import Final

import torch

from gspn2bench.ops.problems import scan_problem
from gspn2bench.problem import Phase, ScanProblem

CHOICES: Final = ("r07", "r08", "r09")
"""The rungs among which the rule chooses; r07 is taken where another cannot run."""

QUAD_LINE: Final[dict[Phase, int]] = {"forward": 256, "backward": 256}
"""Longest line for which r09 is the fastest, in calls of four directions."""

Strips = tuple[tuple[int, float], ...]
STRIPS: Final[dict[tuple[Phase, int], Strips]] = {
    ("forward", 4): ((32, 0.0), (512, 0.5), (8192, 0.25)),
    ("forward", 2): ((32, 0.0), (512, 0.5), (8192, 0.25)),
    ("backward", 4): ((32, 0.0), (512, 0.5), (8192, 0.25)),
    ("backward", 2): ((32, 0.0), (512, 0.5), (8192, 0.25)),
}
"""By phase and bytes of an element: lines up to this length, and the most blocks of r07 per
multiprocessor with which r08 is faster.

Measured with float32 on an H100: 64 slices of 1024x1024 take r07 0.99 of r08's time forward and
0.88 backward; 32 take 1.23 and 1.13. 16-bit types and lines of up to 63 have not been measured."""


def preferred(problem: ScanProblem, directions: int, multiprocessors: int) -> str:
    """The rung that is fastest by measurements, whether or not it can run the problem.

    Args:
        problem: one scan; of four directions, one with the longest lines.
        directions: scans of the call, 1 or 4.
        multiprocessors: of the GPU.
    """
    if directions > 1 and problem.line <= QUAD_LINE[problem.phase]:
        return "r09"
    load = problem.slices * problem.chunks * directions / multiprocessors
    for longest, most in STRIPS[problem.phase, problem.item_bytes]:
        if problem.line <= longest:
            return "r08" if load <= most else "r07"
    return "r07"


def choose(problem: ScanProblem, directions: int, multiprocessors: int) -> str:
    """The rung that ``preferred`` returns, or r07 if that one cannot run the problem.

    Also r07 where only r08 would scan "right" or "left" by transposed copies.
    """
    from gspn2bench.kernels.ladder import LADDER  # imports numba
    from gspn2bench.kernels.transposed import transposed_launches

    rung, usual = LADDER.get(preferred(problem, directions, multiprocessors)), LADDER["r07"]
    if rung is None or rung.skip_reason(problem) is not None:
        return usual.id
    assert usual.launches
    if rung.id == "r08" and usual.launches(problem) < transposed_launches(problem):
        return usual.id
    return rung.id


@lru_cache(maxsize=1024)
def choose_for(
    phase: Phase,
    all_directions: bool,
    vertical: bool,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    shared: bool,
    chunk: int | None,
) -> str:
    """``choose`` for the arguments of an operator.

    Args:
        phase: forward or backward.
        all_directions: whether the call scans all four directions.
        vertical: whether one direction is down or up; for all four any value.
        shape: of x, (N, C, H, W), without a 0.
        dtype: of every tensor.
        device: of every tensor.
        shared: whether the channels share one set of weights.
        chunk: lines after which h restarts at 0; None: never.
    """
    height, width = shape[-2:]
    if all_directions:
        vertical = width >= height
    direction = "down" if vertical else "right"
    problem = scan_problem(phase, direction, shape, dtype, shared, chunk, logits=False)
    return choose(problem, 4 if all_directions else 1, multiprocessors(device))


def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 1 for the simulator, which runs one block at a time."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
