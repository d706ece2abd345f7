"""Weights normalized by torch, then scanned by r07: the baseline for r07 on logits.

Idea: each operation of ``normalize_weights`` (log-sigmoid, mask, softmax) is one kernel; the scan
    follows.
In a call: every operation reads and writes tensors as large as the weights. 16-bit types are
    normalized in float32 and rounded. The mask and the weight tensor are allocated outside the
    call. torch takes temporary memory from its cache.
Source: ops/weights.py and kernels/r07_gspn2.
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
    """Bind the normalization, and r07 on the normalized weights."""
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


def unsupported_reason(problem: ScanProblem) -> str | None:
    """Why the pair can't run the problem: it has no logits, or r07 can't run it; None if it can."""
    if not problem.logits:
        return "logits: r07_unfused takes logits; r07 takes weights"
    return R07.skip_reason(replace(problem, logits=False))


def traffic(problem: ScanProblem) -> int:
    """Bytes of r07, plus the least that normalization moves: logits read and weights written."""
    weights = 3 * problem.plane * (problem.batch if problem.weights == "shared" else problem.slices)
    return R07.traffic(replace(problem, logits=False)) + 2 * weights * problem.item_bytes


RUNG: Final = Rung(
    id="r07_unfused",
    title="normalize, then r07",
    idea="torch normalizes the logits and writes the weights to memory; r07 then scans.",
    source="torch, eager; r07",
    native="down",
    forward=forward,
    launches=None,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
    takes_logits=True,
)
