"""Operands of a case: seeded inputs of a stable scan, and outputs poisoned with NaN."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Final

import torch

from gspn2bench.kernels.contract import OUTPUTS, Operands
from gspn2bench.problem import ScanProblem

VARIED: Final = -0.5
"""Factor by which inputs are changed. Its inverse restores them, because both are exact."""


def make(problem: ScanProblem, device: str, seed: int) -> Operands:
    """Make the operands of a problem.

    x, grad_h and, for backward, h are standard normal; lam is uniform in [0, 1). Weights are
    row-stochastic: sigmoids of normal logits, divided by their sum, without the neighbour outside
    the line (Stability-Context Condition, arXiv 2501.12381, section 3.2). h therefore stays bounded
    in scans of any length. If the problem takes logits, w is standard normal.

    Args:
        problem: shapes and storage type.
        device: torch device of every tensor.
        seed: equal seeds give equal values on the same kind of device.
    """
    generator = torch.Generator(device).manual_seed(seed)
    dtype = getattr(torch, problem.dtype)

    def normal() -> torch.Tensor:
        shape = problem.data_shape
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    def empty(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.full(shape, math.nan, device=device, dtype=dtype)

    x = normal()
    lam = torch.rand(problem.data_shape, generator=generator, device=device).to(dtype)
    w = _weights(problem, generator, device).to(dtype)
    if problem.phase == "forward":
        return Operands(x, lam, w, h=empty(problem.data_shape))
    return Operands(
        x,
        lam,
        w,
        h=normal(),
        grad_h=normal(),
        grad_x=empty(problem.data_shape),
        grad_lam=empty(problem.data_shape),
        grad_w=empty(problem.weight_shape),
    )


def outputs(problem: ScanProblem, operands: Operands) -> dict[str, torch.Tensor]:
    """The tensors that the problem's phase writes, by name."""
    return {name: getattr(operands, name) for name in OUTPUTS[problem.phase]}


def poison(problem: ScanProblem, operands: Operands) -> None:
    """Fill every output with NaN: an element that the call does not write then fails the gate."""
    for tensor in outputs(problem, operands).values():
        tensor.fill_(math.nan)


def vary(operands: Iterable[Operands], factor: float = VARIED) -> None:
    """Scale x and grad_h in place, which scales every output; shared tensors once."""
    inputs = {
        id(tensor): tensor
        for scan in operands
        for tensor in (scan.x, scan.grad_h)
        if tensor is not None
    }
    for tensor in inputs.values():
        tensor.mul_(factor)


def clone(operands: Operands) -> Operands:
    """Copy operands to new memory."""
    tensors = {f.name: getattr(operands, f.name) for f in fields(operands)}
    return replace(operands, **{k: t.clone() for k, t in tensors.items() if t is not None})


def _weights(problem: ScanProblem, generator: torch.Generator, device: str) -> torch.Tensor:
    w = torch.randn(problem.weight_shape, generator=generator, device=device)
    if problem.logits:
        return w
    w.sigmoid_()
    line_axis = -1 if problem.vertical else -2
    w[0].select(line_axis, 0).zero_()
    w[2].select(line_axis, problem.line - 1).zero_()
    return w.div_(w.sum(0, keepdim=True))
