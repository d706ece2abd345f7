"""Derivatives of the operator: first and second order, and forward mode, which is refused."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import opcheck

from gspn2bench.ops import line_scan, line_scan4, normalize_weights
from gspn2bench.ops.check import ALL
from gspn2bench.ops.library import scan, scan_backward
from gspn2bench.problem import DIRECTIONS, Direction, Weights

from ..helpers.ops_fixtures import directions, operands, weights

logits_or_weights = pytest.mark.parametrize("logits", [False, True])
SMALL = (1, 2, 3, 3)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"  # torch's own, in torch.func.jvp
)


@weights
@pytest.mark.parametrize("direction", [*DIRECTIONS, ALL])
def test_opcheck(direction: str, weights: Weights) -> None:
    x, lam, w = operands((1, 2, 3, 4), weights, torch.float32, 4 if direction == ALL else None)
    opcheck(scan, (x, lam, w, direction, 2, "r07"))
    opcheck(scan, (x, lam, w, direction, 2, "r07", True))
    h = torch.randn(lam.shape)
    plain = [tensor.detach() for tensor in (h, x, lam, w, h)]
    opcheck(scan_backward, (*plain, direction, 2, "r07"))


@pytest.mark.parametrize(("direction", "weights"), [("left", "shared"), (ALL, "channel")])
def test_opcheck_of_double_backward(direction: str, weights: Weights) -> None:
    x, lam, w = operands((1, 2, 3, 2), weights, torch.float32, 4 if direction == ALL else None)
    h, grad_h = (torch.randn(lam.shape, requires_grad=True) for _ in range(2))
    opcheck(scan_backward, (grad_h, x, lam, w, h, direction, None, "r07"))


@weights
@directions
@logits_or_weights
def test_gradcheck(direction: Direction, weights: Weights, logits: bool) -> None:
    arguments = operands((1, 2, 3, 4), weights)
    torch.autograd.gradcheck(
        lambda *tensors: line_scan(*tensors, direction=direction, chunk=2, logits=logits),
        arguments,
        fast_mode=True,
    )


def test_gradcheck_of_four_and_of_normalized_weights() -> None:
    def both(x: Tensor, lam: Tensor, logits: Tensor) -> Tensor:
        pairs = zip(logits, DIRECTIONS, strict=True)
        w = torch.stack([normalize_weights(own, direction=towards) for own, towards in pairs])
        return line_scan4(x, lam, w)

    torch.autograd.gradcheck(both, operands((1, 2, 3, 3), "shared", scans=4))


# Gradients of gradients.


@weights
@directions
@logits_or_weights
@pytest.mark.parametrize("chunk", [None, 2])
def test_gradgradcheck(
    direction: Direction, weights: Weights, logits: bool, chunk: int | None
) -> None:
    call = partial(line_scan, direction=direction, chunk=chunk, logits=logits)
    torch.autograd.gradgradcheck(call, operands((2, 2, 3, 4), weights), fast_mode=True)


@weights
@logits_or_weights
@pytest.mark.parametrize("chunk", [None, 2])
def test_gradgradcheck_of_four(weights: Weights, logits: bool, chunk: int | None) -> None:
    call = partial(line_scan4, chunk=chunk, logits=logits)
    torch.autograd.gradgradcheck(call, operands(SMALL, weights, scans=4), fast_mode=True)


@weights
def test_gradgradcheck_of_every_element(weights: Weights) -> None:
    torch.autograd.gradgradcheck(
        partial(line_scan, direction="left"), operands((1, 2, 2, 3), weights)
    )


def written_out(x: Tensor, lam: Tensor, w: Tensor) -> Tensor:
    """A scan down in torch operations, which autograd differentiates any number of times."""
    h = [lam[..., 0, :] * x[..., 0, :]]
    for i in range(1, x.shape[-2]):
        before = torch.nn.functional.pad(h[-1], (1, 1))
        terms = [w[k, ..., i, :] * before[..., k : k + x.shape[-1]] for k in range(3)]
        h.append(terms[0] + terms[1] + terms[2] + lam[..., i, :] * x[..., i, :])
    return torch.stack(h, -2)


def third_derivatives(function: Callable[..., Tensor], arguments: Any) -> list[Tensor]:
    value = function(*arguments).pow(3).sum()
    for _ in range(2):
        grads = torch.autograd.grad(value, arguments, create_graph=True)
        value = sum((grad.square().sum() for grad in grads), torch.zeros(()))
    return list(torch.autograd.grad(value, arguments))


def test_third_derivatives_are_those_of_the_recurrence_written_out() -> None:
    arguments = operands()
    results = third_derivatives(line_scan, arguments)
    for result, expected in zip(results, third_derivatives(written_out, arguments), strict=True):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_double_backward_keeps_16_bit_types(dtype: torch.dtype) -> None:
    arguments = operands(dtype=dtype, scans=4)
    grads = torch.autograd.grad(line_scan4(*arguments).sum(), arguments, create_graph=True)
    second = torch.autograd.grad(sum(grad.float().square().sum() for grad in grads), arguments)
    exact = [tensor.detach().double().requires_grad_() for tensor in arguments]
    grads = torch.autograd.grad(line_scan4(*exact).sum(), exact, create_graph=True)
    expected = torch.autograd.grad(sum(grad.square().sum() for grad in grads), exact)
    for result, reference in zip(second, expected, strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), reference, rtol=0.05, atol=0.05)


# Forward mode.


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("call", [line_scan, line_scan4])
def test_forward_mode_is_refused(call: Any, number: int) -> None:
    scans = 4 if call is line_scan4 else None
    arguments = [tensor.detach() for tensor in operands(scans=scans)]
    own = arguments.pop(number)

    def of_one(tensor: Tensor) -> Any:
        return call(*arguments[:number], tensor, *arguments[number:])

    message = r"line_scan: forward-mode differentiation .* is not implemented; use reverse mode"
    with pytest.raises(NotImplementedError, match=message):
        torch.func.jvp(of_one, (own,), (own,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=message):
        of_one(forward_ad.make_dual(own, own))


def test_forward_mode_is_refused_for_the_output_scale() -> None:
    x, lam, w = (tensor.detach() for tensor in operands(scans=4))
    with pytest.raises(NotImplementedError, match="line_scan: forward-mode differentiation"):
        torch.func.jvp(lambda u: line_scan4(x, lam, w, u=u), (lam,), (lam,))


def test_forward_mode_over_reverse_is_refused() -> None:
    x, lam, w = operands()
    h = line_scan(x, lam, w)
    with forward_ad.dual_level():
        grad_h = forward_ad.make_dual(torch.ones_like(h), torch.ones_like(h))
        with pytest.raises(NotImplementedError, match="forward-mode"):
            torch.autograd.grad(h, x, grad_h)


def test_a_dual_level_without_tangents_is_no_forward_mode() -> None:
    with forward_ad.dual_level():
        assert line_scan(*operands()).shape == (2, 3, 5, 7)
