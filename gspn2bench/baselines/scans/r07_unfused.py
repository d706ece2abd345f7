"""Weights normalized by torch, then scanned by r07: what r07 on logits is held against.

Idea: the passes of ``normalize_weights`` (log-sigmoid, mask, softmax), one kernel each, then the
    scan.
In a call: every pass reads and writes tensors as large as the weights; 16-bit types are normalized
    in float32 and rounded. The mask and the weights' memory are there before, torch takes the rest
    from its cache.
Source: ops/weights.py and kernels/r07_gspn2.py.
"""

from dataclasses import replace
from typing import Final

import torch
from torch.nn.functional import logsigmoid

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.r07_gspn2 import RUNG as R07
from gspn2bench.ops.lines import wide
from gspn2bench.ops.weights import outside
from gspn2bench.problem import ScanProblem


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the passes, and r07 to the weights that they make."""
    logits, w = operands.w, torch.empty_like(operands.w)
    mask = outside(logits, problem.direction)
    scan = R07.bind(replace(problem, logits=False), replace(operands, w=w))

    def call() -> None:
        logs = logsigmoid(wide(logits)).masked_fill(mask, -torch.inf)
        if w.dtype == logs.dtype:
            torch.softmax(logs, 0, out=w)
        else:
            w.copy_(logs.softmax(0))
        scan()

    return call


def supports(problem: ScanProblem) -> str | None:
    """Why the pair can't run it: there is nothing to normalize, or r07 can't."""
    if not problem.logits:
        return "logits: r07_unfused takes logits; r07 takes weights"
    return R07.unsupported(replace(problem, logits=False))


def traffic(problem: ScanProblem) -> int:
    """What r07 moves, and the least that normalizing does: logits read, weights written."""
    weights = 3 * problem.plane * (problem.batch if problem.weights == "shared" else problem.slices)
    return R07.traffic(replace(problem, logits=False)) + 2 * weights * problem.item_bytes


PEER: Final = Rung(
    id="r07_unfused",
    title="normalize, then r07",
    idea="Logits normalized by torch into weights in memory, which r07 then scans with.",
    source="torch, eager; r07",
    native="down",
    forward=forward,
    launches=None,
    supports=supports,
    traffic=traffic,
    takes_logits=True,
)
