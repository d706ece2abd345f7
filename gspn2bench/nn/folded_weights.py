"""Weights of the products of ``GSPN2Attention``, computed from the parameters of its layers.

Parameters are a list: weight and bias (or None) of ``down``, of the three maps, of ``merge`` and of
``up``. Everything here is differentiable; ``weight_cache.py`` keeps results for inference.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

ALIGNED: Final = 8
"""The columns of a product are a multiple of this: 16-bit columns then start at 16-byte addresses.
"""
DIRECTIONS: Final = 4

Parameters = Sequence[Tensor | None]


class Folded(NamedTuple):
    """One product before the scans and one after them. Used up to C_proxy ``FOLDED``."""

    before: Tensor
    """From tokens to x, lam, u, the logits and padding, (K, C)."""
    before_bias: Tensor
    """(K,)."""
    after: Tensor
    """From the four u h to tokens, merge and projection in one, (C, 4 C_proxy)."""
    after_bias: Tensor | None
    """(C,)."""


class Chained(NamedTuple):
    """Two products before the scans and two after them, each of one launch.

    The first has a column that is always 1, so the bias of the second is a column of its weight. A
    bias along the rows of a product, which writes planes, would be a launch of its own.
    """

    first: Tensor
    """From tokens to the proxy channels, the 1 and padding, (F, C)."""
    first_bias: Tensor
    """(F,)."""
    second: Tensor
    """From these to x, lam, u and the logits, (9 C_proxy + 12, F)."""
    merge: Tensor
    """(C_proxy, 4 C_proxy)."""
    merge_bias: Tensor | None
    up: Tensor
    """(C, C_proxy)."""
    up_bias: Tensor | None


def stack_maps(maps: Parameters) -> tuple[Tensor, Tensor]:
    """Weight and bias of one map from features to lam, u and the logits.

    Args:
        maps: weight and bias of the layers of lam - 1, u - 1 and the logits.
    """
    weights = [weight for weight in maps[::2] if weight is not None]
    biases = [
        weight.new_zeros(weight.shape[0]) if bias is None else bias
        for weight, bias in zip(weights, maps[1::2], strict=True)
    ]
    bias = torch.cat([torch.cat(biases[:2]) + 1, biases[2]])
    return torch.cat(weights), bias


def fold(parameters: Parameters) -> Folded:
    """Multiply consecutive linear maps with each other. Padding repeats rows; nothing reads it."""
    down, down_bias, *maps, merge, merge_bias, up, up_bias = parameters
    assert down is not None and merge is not None and up is not None  # noqa: PT018
    weight, bias = stack_maps(maps)
    product = weight @ down
    if down_bias is None:
        down_bias = down.new_zeros(down.shape[0])
    else:
        bias = torch.addmv(bias, weight, down_bias)
    spare = -(down.shape[0] + weight.shape[0]) % ALIGNED
    if merge_bias is not None:
        if up_bias is None:
            up_bias = torch.mv(up, merge_bias)
        else:
            up_bias = torch.addmv(up_bias, up, merge_bias)
    return Folded(
        torch.cat([down, product, product.detach()[:spare]]),
        torch.cat([down_bias, bias, bias.detach()[:spare]]),
        (merge.t() @ up.t()).t(),  # as ``expand`` reads it
        up_bias,
    )


def chain(parameters: Parameters) -> Chained:
    """Weights of the products of ``Chained``."""
    down, down_bias, *maps, merge, merge_bias, up, up_bias = parameters
    assert down is not None and merge is not None and up is not None  # noqa: PT018
    weight, bias = stack_maps(maps)
    proxy = down.shape[0]
    spare = -(proxy + 1) % ALIGNED
    one = down.new_ones(1)
    first_bias = down.new_zeros(proxy) if down_bias is None else down_bias
    identity = torch.eye(proxy, dtype=down.dtype, device=down.device)
    maps_and_bias = torch.cat([weight, bias[:, None]], 1)
    return Chained(
        pad(down, (0, 0, 0, 1 + spare)),
        pad(torch.cat([first_bias, one]), (0, spare)),
        torch.cat([pad(identity, (0, 1 + spare)), pad(maps_and_bias, (0, spare))]),
        merge,
        merge_bias,
        up,
        up_bias,
    )
