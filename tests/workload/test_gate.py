"""The gate is red for each fault that is planted here."""

import math
from collections.abc import Callable

import pytest
import torch

from gspn2bench.kernels import reference
from gspn2bench.kernels.contract import Operands
from gspn2bench.problem import ScanProblem
from gspn2bench.workload import gate, inputs

PROBLEM = ScanProblem(2, 3, 4, 5)


def reference_h(problem: ScanProblem, operands: Operands) -> torch.Tensor:
    group, plane = problem.slices, (problem.height, problem.width)
    x, lam = (t.double().view(group, 1, *plane) for t in (operands.x, operands.lam))
    w = operands.w.double().view(3, group, 1, *plane)
    h: torch.Tensor = reference.forward(problem, x, lam, w)
    return h.view(problem.data_shape).float()


def check_with(fault: Callable[[torch.Tensor], None]) -> gate.GateResult:
    operands = inputs.make(PROBLEM, "cpu", seed=0)

    def call() -> None:
        operands.h.copy_(reference_h(PROBLEM, operands))
        fault(operands.h)

    return gate.check(PROBLEM, operands, call)


def test_the_reference_passes_with_every_slice_compared() -> None:
    result = check_with(lambda h: None)
    assert result.passed
    assert result.slices == 6
    assert result.error is not None
    assert 0 < result.error < 1e-6


@pytest.mark.parametrize("slice_", [0, 3, 5])
def test_one_wrong_element_in_any_slice(slice_: int) -> None:
    def fault(h: torch.Tensor) -> None:
        h.view(6, 4, 5)[slice_, 3, 4] += 1e-3

    result = check_with(fault)
    assert not result.passed
    assert result.error is not None
    assert result.error > result.tolerance
    assert result.reason is not None
    assert "h: error" in result.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_element_that_is_not_finite(value: float) -> None:
    def fault(h: torch.Tensor) -> None:
        h[1, 2, 3, 4] = value

    result = check_with(fault)
    assert not result.passed
    assert result.error is None
    assert result.reason == "h: 1 of 120 elements are NaN or infinite"


def test_a_call_that_writes_nothing() -> None:
    operands = inputs.make(PROBLEM, "cpu", seed=0)
    operands.h.copy_(reference_h(PROBLEM, operands))  # correct, but stale
    result = gate.check(PROBLEM, operands, lambda: None)
    assert result.reason == "h: 120 of 120 elements are NaN or infinite"


def test_if_the_reference_is_zero_any_difference_fails() -> None:
    operands = inputs.make(PROBLEM, "cpu", seed=0)
    operands.x.zero_()

    def fill(value: float) -> gate.GateResult:
        def call() -> None:
            operands.h.fill_(value)

        return gate.check(PROBLEM, operands, call)

    assert fill(0.0).passed
    assert not fill(1e-30).passed


def test_a_subset_of_slices_is_compared_if_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "COMPARE_SECONDS", 0.0)
    problem = ScanProblem(40, 1, 2, 3)
    operands = inputs.make(problem, "cpu", seed=0)
    expected = reference_h(problem, operands)

    def faulty(slice_: int) -> gate.GateResult:
        def call() -> None:
            operands.h.copy_(expected)
            operands.h[slice_] += 1

        return gate.check(problem, operands, call)

    first, last = faulty(0), faulty(39)
    assert not first.passed
    assert not last.passed
    assert first.slices == last.slices == 2


@pytest.mark.parametrize("weights", ["channel", "shared"])
@pytest.mark.parametrize("name", ["grad_x", "grad_lam", "grad_w"])
def test_every_gradient_is_compared_with_the_reference(name: str, weights: str) -> None:
    problem = ScanProblem(2, 3, 4, 5, phase="backward", weights=weights)  # type: ignore[arg-type]
    operands = inputs.make(problem, "cpu", seed=0)
    members = 1 if weights == "channel" else 3
    groups = problem.slices // members
    data, shared = (groups, members, 4, 5), (3, groups, 1, 4, 5)
    arguments = [
        tensor.double().view(shared if tensor is operands.w else data)
        for tensor in (operands.grad_h, operands.x, operands.lam, operands.w, operands.h)
        if tensor is not None
    ]
    gradients = reference.backward(problem, *arguments)

    def call(fault: float) -> None:
        for output, gradient in zip(("grad_x", "grad_lam", "grad_w"), gradients, strict=True):
            tensor = getattr(operands, output)
            tensor.copy_(gradient.reshape(tensor.shape))
            if output == name:
                tensor.view(-1)[-1] += fault

    assert gate.check(problem, operands, lambda: call(0.0)).passed
    result = gate.check(problem, operands, lambda: call(0.1))
    assert not result.passed
    assert name in (result.reason or "")


def test_an_error_of_nan_stays_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference itself may overflow. Later comparisons must not hide that."""
    problem = ScanProblem(1, 3, 4, 5)
    operands = inputs.make(problem, "cpu", 0)
    errors = iter([math.nan, 0.0, 0.0])
    monkeypatch.setattr(gate._Groups, "errors", lambda *_: {"h": next(errors)})

    def call() -> None:
        operands.h.zero_()

    assert not gate.check(problem, operands, call).passed
