"""Operands of scans for the tests of the operator."""

import pytest
import torch
from torch import Tensor

from gspn2bench.problem import DIRECTIONS, WEIGHTS, Weights

Arguments = tuple[Tensor, Tensor, Tensor]
SHAPE = (2, 3, 5, 7)

directions = pytest.mark.parametrize("direction", DIRECTIONS)
weights = pytest.mark.parametrize("weights", WEIGHTS)


def operands(
    shape: tuple[int, ...] = SHAPE,
    weights: Weights = "channel",
    dtype: torch.dtype = torch.float64,
    scans: int | None = None,
) -> Arguments:
    """x, lam and w that require gradients; neighbours outside the plane have weights too."""
    generator = torch.Generator().manual_seed(0)
    batch, _, height, width = shape
    own = shape if weights == "channel" else (batch, height, width)
    leading = () if scans is None else (scans,)

    def uniform(*sizes: int) -> Tensor:
        values = torch.rand(sizes, generator=generator, dtype=torch.float64) - 0.4
        return values.to(dtype).requires_grad_()

    return uniform(*shape), uniform(*leading, *shape), uniform(*leading, 3, *own)
