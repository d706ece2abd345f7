"""The problem of a scan, from the arguments of its operator."""

from functools import cache

import torch

from gspn2bench.problem import Direction, Phase, ScanProblem


@cache
def scan_problem(
    phase: Phase,
    direction: Direction,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    shared: bool,
    chunk: int | None,
    logits: bool,
) -> ScanProblem:
    """The problem of one direction; a chunk is at most its whole scan.

    Args:
        phase: forward or backward.
        direction: of the scan.
        shape: of x, (N, C, H, W).
        dtype: of every tensor.
        shared: whether the channels share one set of weights.
        chunk: lines after which h restarts at 0; None: never.
        logits: whether w holds logits.
    """
    batch, channels, height, width = shape
    steps = height if direction in ("down", "up") else width
    return ScanProblem(
        batch,
        channels,
        height,
        width,
        dtype=str(dtype).removeprefix("torch."),  # type: ignore[arg-type]
        direction=direction,
        chunk=None if chunk is None else min(chunk, steps),
        weights="shared" if shared else "channel",
        phase=phase,
        logits=logits,
    )
