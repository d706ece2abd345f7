"""The gate is red for each fault that is planted here."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from gspn2bench.kernels import reference
from gspn2bench.kernels.contract import Operands
from gspn2bench.problem import DType, Phase, ScanProblem
from gspn2bench.workload import gate, inputs

PROBLEM = ScanProblem(2, 3, 4, 5)


@pytest.fixture(autouse=True)
def all_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare all slices, however slow the machine is."""
    monkeypatch.setattr(gate, "COMPARE_SECONDS", math.inf)


def reference_h(problem: ScanProblem, operands: Operands) -> torch.Tensor:
    group, plane = problem.slices, (problem.height, problem.width)
    x, lam = (t.double().view(group, 1, *plane) for t in (operands.x, operands.lam))
    w = operands.w.double().view(3, group, 1, *plane)
    h: torch.Tensor = reference.forward(problem, x, lam, w)
    return h.view(problem.data_shape).float()


def fill(problem: ScanProblem, operands: Operands) -> None:
    """Write the right result to every output."""
    members = 1 if problem.weights == "channel" else problem.channels
    plane = (problem.height, problem.width)
    groups = problem.slices // members
    data, weights = (groups, members, *plane), (3, groups, 1, *plane)
    names = ("x", "lam", "w") if problem.phase == "forward" else ("grad_h", "x", "lam", "w", "h")
    exact = [
        getattr(operands, name).double().view(weights if name == "w" else data) for name in names
    ]
    if problem.phase == "forward":
        results = (reference.forward(problem, *exact),)
    else:
        results = reference.backward(problem, *exact)
    for output, result in zip(inputs.outputs(problem, operands).values(), results, strict=True):
        output.copy_(result.reshape(output.shape))


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


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("missing", range(4))
def test_every_output_of_every_scan_must_be_written_again(missing: int, phase: Phase) -> None:
    """All outputs hold the right results already, and the call leaves those of one scan alone."""
    problem = replace(PROBLEM, phase=phase)
    scans = [(problem, inputs.make(problem, "cpu", seed)) for seed in range(4)]
    for scan in scans:
        fill(*scan)

    def call(left_out: int | None) -> None:
        for index, scan in enumerate(scans):
            if index != left_out:
                fill(*scan)

    green = gate.check_all(scans, lambda: call(None))
    assert green.passed, green.reason
    assert green.slices == 4 * 6
    assert not gate.check_all(scans, lambda: call(missing)).passed


@pytest.mark.parametrize("name", ["grad_x", "grad_lam", "grad_w"])
def test_every_output_of_a_scan_must_be_written_again(name: str) -> None:
    problem = replace(PROBLEM, phase="backward")
    operands = inputs.make(problem, "cpu", seed=0)
    fill(problem, operands)

    def call() -> None:
        kept = inputs.clone(operands)
        fill(problem, operands)
        getattr(operands, name).copy_(getattr(kept, name))

    assert name in (gate.check(problem, operands, call).reason or "")


@pytest.mark.parametrize("faulty", range(4))
def test_a_fault_in_any_scan_is_red_and_the_largest_error_is_reported(faulty: int) -> None:
    scans = [(PROBLEM, inputs.make(PROBLEM, "cpu", seed)) for seed in range(4)]

    def call(share: float) -> None:
        for index, scan in enumerate(scans):
            fill(*scan)
            if index == faulty:
                h = scan[1].h
                h.view(-1)[-1] += share * h[1, 2].abs().max()

    small, large = (gate.check_all(scans, lambda s=share: call(s)) for share in (1e-5, 1e-3))
    assert small.passed
    assert small.error == pytest.approx(1e-5, rel=0.05)
    assert not large.passed
    assert large.error == pytest.approx(1e-3, rel=0.05)


def scaled(phase: Phase, small: int) -> tuple[ScanProblem, Operands]:
    """Two images of shared weights, whose outputs are 1e6 times smaller in one."""
    problem = ScanProblem(2, 3, 4, 5, weights="shared", phase=phase)
    operands = inputs.make(problem, "cpu", seed=0)
    for tensor in (operands.x, operands.grad_h):
        if tensor is not None:
            tensor[small] *= 1e-6
    return problem, operands


@pytest.mark.parametrize("small", [0, 1])
@pytest.mark.parametrize(
    ("phase", "name"),
    [
        ("forward", "h"),
        ("backward", "grad_x"),
        ("backward", "grad_lam"),
        ("backward", "grad_w"),
    ],
)
def test_a_fault_in_a_small_group_is_red_beside_a_large_one(
    phase: Phase, name: str, small: int
) -> None:
    problem, operands = scaled(phase, small)

    def call(share: float) -> None:
        fill(problem, operands)
        output = getattr(operands, name)
        part = output[:, small] if name == "grad_w" else output[small]
        part[-1, -1, -1] += share * part.abs().max()

    assert gate.check(problem, operands, lambda: call(0.0)).passed
    result = gate.check(problem, operands, lambda: call(1e-2))
    assert not result.passed
    assert result.error == pytest.approx(1e-2, rel=0.05)


@pytest.mark.parametrize("plane", range(3))
def test_the_scale_of_grad_w_is_that_of_its_group(plane: int) -> None:
    """Not that of one of its three planes: rounding in a small plane beside large ones is right."""
    problem = ScanProblem(1, 1, 4, 5, phase="backward")
    operands = inputs.make(problem, "cpu", seed=0)
    fill(problem, operands)
    largest = operands.grad_w.abs().max()

    def call() -> None:
        fill(problem, operands)
        operands.grad_w[plane, 0, 0, -1, 2] += 1e-3 * largest

    assert gate.check(problem, operands, call).error == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_error_counts_in_both_directions_and_relative_to_the_reference(sign: int) -> None:
    """A result of ten times the reference has an error of 9, not of 0.9."""
    operands = inputs.make(PROBLEM, "cpu", seed=0)

    def call() -> None:
        fill(PROBLEM, operands)
        operands.h.mul_(1 + 9 * sign)

    assert gate.check(PROBLEM, operands, call).error == pytest.approx(9)
    operands.x.abs_()  # every element of h is above 0, so each error has one sign
    assert gate.check(PROBLEM, operands, call).error == pytest.approx(9)


BOUNDS: list[tuple[DType, float]] = [("float32", 2e-5), ("float16", 1e-3), ("bfloat16", 8e-3)]


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_the_bound_of_each_type_lies_where_it_says(dtype: DType, bound: float) -> None:
    """The largest element of h is 1, and the one with the error is 0, so storage rounds it little.

    The bounds are written out here: changing one must change this test.
    """
    problem = ScanProblem(1, 1, 1, 2, dtype)
    operands = inputs.make(problem, "cpu", seed=0)
    assert operands.lam is not None
    operands.lam.fill_(1.0)
    operands.x.copy_(torch.tensor([1.0, 0.0]))

    def check(error: float) -> gate.GateResult:
        def call() -> None:
            operands.h.copy_(torch.tensor([1.0, error]))

        return gate.check(problem, operands, call)

    below, above = check(0.99 * bound), check(1.01 * bound)
    assert below.passed
    assert not above.passed
    assert below.tolerance == above.tolerance == bound
