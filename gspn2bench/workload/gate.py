"""Correctness before any number: a rung's outputs against the float64 reference."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from gspn2bench.kernels import reference
from gspn2bench.kernels.contract import OUTPUTS, Call, Operands
from gspn2bench.problem import ScanProblem
from gspn2bench.workload.inputs import outputs, poison

TOLERANCE: Final = {"float32": 2e-5, "float16": 1e-3, "bfloat16": 8e-3}
"""Largest error allowed, relative to the largest element of a slice's reference.

float32 carries the rounding of up to thousands of dependent steps; the 16-bit types are bounded by
one rounding to storage (2**-11 and 2**-8), twice over.
"""
SECONDS: Final = 1.0
"""The reference samples slices where comparing them all would take longer."""


@dataclass(frozen=True)
class GateResult:
    """What the gate found.

    Args:
        passed: green or red.
        error: largest error relative to the reference; None where an output is not finite.
        tolerance: the bound it was held to.
        slices: slices compared with the reference, of batch * channels.
        reason: why it is red.
    """

    passed: bool
    error: float | None
    tolerance: float
    slices: int
    reason: str | None = None


def check(problem: ScanProblem, operands: Operands, call: Call) -> GateResult:
    """Hold a call that runs one scan to the reference: see ``check_all``."""
    return check_all([(problem, operands)], call)


def check_all(scans: Sequence[tuple[ScanProblem, Operands]], call: Call) -> GateResult:
    """Poison the outputs, run the call once, and hold every output of every scan to the reference.

    Every element must be finite. Values are compared slice by slice: first and last always, all of
    them if that takes under a second, an even-handed sample otherwise.

    Returns:
        The first red verdict; else a green one, with the largest error and all slices together.
    """
    for problem, operands in scans:
        poison(problem, operands)
    call()
    verdicts = [_compare(problem, operands) for problem, operands in scans]
    for verdict in verdicts:
        if not verdict.passed:
            return verdict
    worst = max(verdict.error or 0.0 for verdict in verdicts)
    slices = sum(verdict.slices for verdict in verdicts)
    return GateResult(True, worst, verdicts[0].tolerance, slices)


def _compare(problem: ScanProblem, operands: Operands) -> GateResult:
    groups = _Groups(problem, operands)
    errors = ((len(index) * groups.members, groups.errors(index)) for index in groups.batches())
    return judge_errors(outputs(problem, operands), errors, TOLERANCE[problem.dtype])


def judge_errors(
    found: Mapping[str, torch.Tensor],
    errors: Iterable[tuple[int, Mapping[str, float]]],
    tolerance: float,
) -> GateResult:
    """Green if every element is finite and no error is above the tolerance.

    Args:
        found: outputs, by name.
        errors: slices compared, with the largest error of each output over them; nothing is
            compared where an element is not finite.
        tolerance: largest error allowed.
    """
    for name, tensor in found.items():
        stale = tensor.numel() - int(torch.isfinite(tensor).sum())
        if stale:
            reason = f"{name}: {stale} of {tensor.numel()} elements are NaN or infinite"
            return GateResult(False, None, tolerance, 0, reason)
    worst, where, compared = 0.0, "", 0
    for slices, each in errors:
        compared += slices
        for name, error in each.items():
            if not (error <= worst or math.isnan(worst)):  # NaN stays
                worst, where = error, name
    if worst <= tolerance:
        return GateResult(True, worst, tolerance, compared)
    reason = f"{where}: error {worst:.2e} is above {tolerance:.0e} of the largest element"
    return GateResult(False, worst if math.isfinite(worst) else None, tolerance, compared, reason)


class _Groups:
    """Slices that share weights, as reference.py takes them: (G, M, H, W) and (3, G, 1, H, W)."""

    def __init__(self, problem: ScanProblem, operands: Operands) -> None:
        self.problem = problem
        self.members = 1 if problem.weights == "channel" else problem.channels
        self.count = problem.slices // self.members
        plane = (problem.height, problem.width)
        shape = (self.count, self.members, *plane)
        weights = (3, self.count, 1, *plane)
        names = ("x", "lam", "w", "h", "grad_h", "grad_x", "grad_lam", "grad_w")
        self.views = {
            name: tensor.view(weights if name in ("w", "grad_w") else shape)
            for name in names
            if (tensor := getattr(operands, name)) is not None
        }

    def batches(self) -> Iterator[torch.Tensor]:
        """Indices of groups: the first and the last, then ever larger samples while time lasts."""
        rest = np.random.default_rng(0).permutation(np.arange(1, max(self.count - 1, 1)))
        order = [0] if self.count == 1 else [0, self.count - 1, *rest.tolist()]
        device = self.views["x"].device
        start, done, size = time.perf_counter(), 0, 2
        while done < len(order):
            began = time.perf_counter()
            yield torch.tensor(order[done : done + size], device=device)
            done += size
            now = time.perf_counter()
            # The next batch is twice as large, and so may take twice as long.
            if now - start + 2 * (now - began) > SECONDS:
                return
            size = min(2 * size, self._most())

    def _most(self) -> int:
        """Groups whose float64 copies, about 16 tensors, take a quarter of the free memory."""
        group_bytes = 16 * 8 * self.members * self.problem.plane
        device = self.views["x"].device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 2**32
        return max(1, free // 4 // group_bytes)

    def errors(self, index: torch.Tensor) -> dict[str, float]:
        """Largest error of each output over some groups, relative to each group's largest value."""
        take = {
            name: self._float64(view.index_select(1 if name in ("w", "grad_w") else 0, index))
            for name, view in self.views.items()
        }
        expected = self._reference(take)
        found = {}
        for name, wanted in expected.items():
            axis = 1 if name == "grad_w" else 0
            found[name] = _relative(take[name].swapaxes(0, axis), wanted.swapaxes(0, axis))
        return found

    def _reference(self, take: dict[str, Any]) -> dict[str, Any]:
        if self.problem.phase == "forward":
            results: tuple[Any, ...] = (
                reference.forward(self.problem, take["x"], take["lam"], take["w"]),
            )
        else:
            arguments = (take[name] for name in ("grad_h", "x", "lam", "w", "h"))
            results = reference.backward(self.problem, *arguments)
        return dict(zip(OUTPUTS[self.problem.phase], results, strict=True))

    def _float64(self, tensor: torch.Tensor) -> Any:
        exact = tensor.double()
        return exact if exact.is_cuda else exact.numpy()


def _relative(got: Any, wanted: Any) -> float:
    """Largest error of any group, each relative to the largest element of its reference."""
    xp = torch if isinstance(wanted, torch.Tensor) else np
    groups = len(wanted)
    error = xp.amax(abs(got - wanted).reshape(groups, -1), 1)
    scale = xp.amax(abs(wanted).reshape(groups, -1), 1)
    # Where the reference is all zero, any difference at all is infinitely wrong.
    relative = xp.where(error == 0, error, error / xp.where(scale == 0, 1e-300 + 0 * scale, scale))
    return float(relative.max())
