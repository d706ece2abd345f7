"""The reference itself: by hand, by symmetry, and against float64 autograd."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from gspn2bench.kernels import reference
from gspn2bench.problem import DIRECTIONS, Direction, ScanProblem

GROUPS, HEIGHT, WIDTH = 2, 4, 3


def problem(direction: Direction, chunk: int | None = None, members: int = 1) -> ScanProblem:
    weights = "channel" if members == 1 else "shared"
    return ScanProblem(
        GROUPS, members, HEIGHT, WIDTH, direction=direction, chunk=chunk, weights=weights
    )


def tensors(members: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    data = (GROUPS, members, HEIGHT, WIDTH)

    def normal(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return normal(data), normal(data), normal((3, GROUPS, 1, HEIGHT, WIDTH))


def test_two_lines_by_hand() -> None:
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[None, None]
    lam = np.full((1, 1, 2, 3), 2.0)
    w = np.array([0.5, 10.0, 100.0])[:, None, None, None, None] * np.ones((3, 1, 1, 2, 3))
    h = reference.forward(ScanProblem(1, 1, 2, 3), x, lam, w)
    first = [2.0, 4.0, 6.0]
    second = [
        10 * 2.0 + 100 * 4.0 + 8.0,  # nothing to the left
        0.5 * 2.0 + 10 * 4.0 + 100 * 6.0 + 10.0,
        0.5 * 4.0 + 10 * 6.0 + 12.0,  # nothing to the right
    ]
    np.testing.assert_array_equal(h[0, 0], [first, second])


def test_chunks_start_from_zero() -> None:
    x, lam, w = tensors()
    h = reference.forward(problem("down", chunk=3), x, lam, w)
    torch.testing.assert_close(h[..., 0, :], (lam * x)[..., 0, :])
    torch.testing.assert_close(h[..., 3, :], (lam * x)[..., 3, :])
    assert not torch.allclose(h[..., 1, :], (lam * x)[..., 1, :])


@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
def test_directions_are_flips_and_transposes_of_down(chunk: int | None) -> None:
    x, lam, w = tensors()
    down = reference.forward(problem("down", chunk), x, lam, w)

    up = reference.forward(problem("up", chunk), x.flip(-2), lam.flip(-2), w.flip(-2))
    torch.testing.assert_close(up.flip(-2), down)

    turned = [t.swapaxes(-1, -2).contiguous() for t in (x, lam, w)]
    sideways = ScanProblem(GROUPS, 1, WIDTH, HEIGHT, direction="right", chunk=chunk)
    right = reference.forward(sideways, *turned)
    torch.testing.assert_close(right.swapaxes(-1, -2), down)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_numpy_and_torch_agree(direction: Direction, members: int) -> None:
    case = problem(direction, 2, members)
    x, lam, w = tensors(members)
    h = reference.forward(case, x, lam, w)
    np.testing.assert_allclose(
        reference.forward(case, x.numpy(), lam.numpy(), w.numpy()), h.numpy(), rtol=1e-12
    )
    grads = reference.backward(case, x, x, lam, w, h)
    arrays = [t.numpy() for t in (x, x, lam, w, h)]
    for ours, theirs in zip(reference.backward(case, *arrays), grads, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)


class Scan(torch.autograd.Function):
    """The reference's two halves as one differentiable function, for gradcheck."""

    @staticmethod
    def forward(ctx: Any, case: ScanProblem, *operands: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = reference.forward(case, *operands)
        ctx.case = case
        ctx.save_for_backward(*operands, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad_h: torch.Tensor) -> Any:  # type: ignore[override]
        return (None, *reference.backward(ctx.case, grad_h, *ctx.saved_tensors))


@pytest.mark.parametrize(
    ("direction", "chunk", "members"),
    [
        (direction, chunk, members)
        for direction, chunk, members in itertools.product(DIRECTIONS, (None, 1, 2), (1, 3))
        if chunk != 1 or members == 1
    ],
)
def test_backward_is_the_gradient_of_forward(
    direction: Direction, chunk: int | None, members: int
) -> None:
    case = problem(direction, chunk, members)
    operands = [t.requires_grad_() for t in tensors(members)]
    assert torch.autograd.gradcheck(lambda *t: Scan.apply(case, *t), operands)

    x, lam, w = operands
    h = reference.forward(case, x, lam, w)
    grad_h = torch.linspace(-1, 1, h.numel(), dtype=torch.float64).view(h.shape)
    wanted = torch.autograd.grad(h, operands, grad_h, materialize_grads=True)
    got = reference.backward(case, grad_h, *(t.detach() for t in (x, lam, w, h)))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
