"""The correctness gate: compare the outputs of a call with the float64 reference."""

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
"""Largest error allowed, relative to the largest element of the reference of a slice.

For float32 the bound allows for rounding in thousands of dependent steps. For the 16-bit types it
is twice the error of one rounding to storage (2**-11 and 2**-8).
"""
COMPARE_SECONDS: Final = 1.0
"""If comparing all slices would take longer, only a subset of them is compared."""


@dataclass(frozen=True)
class GateResult:
    """The result of the gate.

    Args:
        passed: True for green, False for red.
        error: largest error relative to the reference; None if an output is not finite.
        tolerance: largest error allowed.
        slices: number of slices compared, out of batch * channels.
        reason: why the gate is red; None if it is green.
    """

    passed: bool
    error: float | None
    tolerance: float
    slices: int
    reason: str | None = None


def check(problem: ScanProblem, operands: Operands, call: Call) -> GateResult:
    """Compare the outputs of a call that runs one scan with the reference: see ``check_all``."""
    return check_all([(problem, operands)], call)


def check_all(scans: Sequence[tuple[ScanProblem, Operands]], call: Call) -> GateResult:
    """Poison the outputs, run the call once, and compare them: see ``compare_all``.

    Args:
        scans: the problem and operands of each scan.
        call: runs all of them.
    """
    for problem, operands in scans:
        poison(problem, operands)
    call()
    return compare_all(scans)


def compare_all(scans: Sequence[tuple[ScanProblem, Operands]]) -> GateResult:
    """Compare every output of every scan with the reference, as the outputs are now.

    Every element must be finite. Values are compared slice by slice, the first and last slices
    first. If all slices would take longer than ``COMPARE_SECONDS``, a random subset is compared.

    Args:
        scans: the problem and operands of each scan.

    Returns:
        The first red result; otherwise a green one with the largest error and the total of slices.
    """
    results = [_compare(problem, operands) for problem, operands in scans]
    for result in results:
        if not result.passed:
            return result
    worst = max(result.error or 0.0 for result in results)
    slices = sum(result.slices for result in results)
    return GateResult(True, worst, results[0].tolerance, slices)


def _compare(problem: ScanProblem, operands: Operands) -> GateResult:
    groups = _Groups(problem, operands)
    errors = ((len(index) * groups.members, groups.errors(index)) for index in groups.subsets())
    return judge_errors(outputs(problem, operands), errors, TOLERANCE[problem.dtype])


def judge_errors(
    tensors: Mapping[str, torch.Tensor],
    errors: Iterable[tuple[int, Mapping[str, float]]],
    tolerance: float,
) -> GateResult:
    """Green if every element is finite and no error is above the tolerance.

    Args:
        tensors: outputs, by name.
        errors: numbers of slices compared, each with the largest error per output over them. Not
            consumed if an element is not finite.
        tolerance: largest error allowed.
    """
    for name, tensor in tensors.items():
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            reason = f"{name}: {bad} of {tensor.numel()} elements are NaN or infinite"
            return GateResult(False, None, tolerance, 0, reason)
    worst, worst_name, compared = 0.0, "", 0
    for slices, error_of in errors:
        compared += slices
        for name, error in error_of.items():
            if not (error <= worst or math.isnan(worst)):  # once NaN, worst stays NaN
                worst, worst_name = error, name
    if worst <= tolerance:
        return GateResult(True, worst, tolerance, compared)
    reason = f"{worst_name}: error {worst:.2e} is above {tolerance:.0e} of the largest element"
    return GateResult(False, worst if math.isfinite(worst) else None, tolerance, compared, reason)


class _Groups:
    """The slices of a problem in groups that share weights, as the reference takes them.

    With G groups of M slices, data are (G, M, H, W) and weights are (3, G, 1, H, W).
    """

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

    def subsets(self) -> Iterator[torch.Tensor]:
        """Yield indices of groups until all are compared or ``COMPARE_SECONDS`` would be exceeded.

        The first subset is the first and the last group. Later ones are random, and each is at most
        twice as large as the one before.
        """
        rest = np.random.default_rng(0).permutation(np.arange(1, max(self.count - 1, 1)))
        order = [0] if self.count == 1 else [0, self.count - 1, *rest.tolist()]
        device = self.views["x"].device
        start, done, size = time.perf_counter(), 0, min(2, self._max_groups())
        while done < len(order):
            subset_start = time.perf_counter()
            yield torch.tensor(order[done : done + size], device=device)
            done += size
            now = time.perf_counter()
            # The next subset is twice as large and may take twice as long.
            if now - start + 2 * (now - subset_start) > COMPARE_SECONDS:
                return
            size = min(2 * size, self._max_groups())

    def _max_groups(self) -> int:
        """Most groups to compare at once: 16 float64 copies must fit a quarter of free memory."""
        group_bytes = 16 * 8 * self.members * self.problem.plane
        device = self.views["x"].device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 2**32
        return max(1, free // 4 // group_bytes)

    def errors(self, index: torch.Tensor) -> dict[str, float]:
        """Largest error of each output over some groups.

        An error is relative to the largest element of the reference of its group.
        """
        exact = {
            name: self._float64(view.index_select(1 if name in ("w", "grad_w") else 0, index))
            for name, view in self.views.items()
        }
        errors = {}
        for name, expected in self._reference(exact).items():
            axis = 1 if name == "grad_w" else 0
            errors[name] = _relative_error(
                exact[name].swapaxes(0, axis), expected.swapaxes(0, axis)
            )
        return errors

    def _reference(self, exact: dict[str, Any]) -> dict[str, Any]:
        if self.problem.phase == "forward":
            results: tuple[Any, ...] = (
                reference.forward(self.problem, exact["x"], exact["lam"], exact["w"]),
            )
        else:
            arguments = (exact[name] for name in ("grad_h", "x", "lam", "w", "h"))
            results = reference.backward(self.problem, *arguments)
        return dict(zip(OUTPUTS[self.problem.phase], results, strict=True))

    def _float64(self, tensor: torch.Tensor) -> Any:
        double = tensor.double()
        return double if double.is_cuda else double.numpy()


def _relative_error(actual: Any, expected: Any) -> float:
    """Largest error of any group (axis 0), relative to the largest element of its reference."""
    xp = torch if isinstance(expected, torch.Tensor) else np
    groups = len(expected)
    error = xp.amax(abs(actual - expected).reshape(groups, -1), 1)
    scale = xp.amax(abs(expected).reshape(groups, -1), 1)
    # If the reference is all zero, any difference is an infinite relative error.
    relative = xp.where(error == 0, error, error / xp.where(scale == 0, 1e-300 + 0 * scale, scale))
    return float(relative.max())
