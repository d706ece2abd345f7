"""A module in float64, on the same parameters and inputs: what its output is held to.

Scans run through ``kernels.reference``, softmax attention is written out. Attention is another
function than a scan: each is held to its own.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from gspn2bench.kernels import reference
from gspn2bench.nn import GSPNBlock
from gspn2bench.nn.attention import FourScans
from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.nn.softmax import SoftmaxAttention, TorchAttention
from gspn2bench.ops.check import ALL, each, shares_weights
from gspn2bench.problem import ScanProblem


def exact(module: nn.Module) -> nn.Module:
    """A copy in float64, whose scans are the reference's; it can be differentiated."""
    made = copy.deepcopy(module).double()
    for part in made.modules():
        if isinstance(part, FourScans):
            part.scan4 = scan4
    return made


def whole(module: nn.Module, x: Tensor, *arguments: Size) -> Tensor:
    """What an ``exact`` module gives.

    Args:
        module: from ``exact``.
        x: float64, as the module takes it.
        arguments: height and width, if the module mixes tokens.
    """
    if not isinstance(module, TokenMixer):
        given: Tensor = module(x)
        return given
    return at(module, x, arguments[0], torch.arange(x.shape[1], device=x.device))


def at(module: nn.Module, tokens: Tensor, size: Size, positions: Tensor) -> Tensor:
    """What an ``exact`` mixer of tokens gives at some positions; attention then skips the others.

    Args:
        module: from ``exact``.
        tokens: (N, L, C), float64.
        size: height and width.
        positions: of tokens, (P,).

    Returns:
        (N, P, C).
    """
    if isinstance(module, (SoftmaxAttention, TorchAttention)):
        return module.at(tokens, positions)
    if isinstance(module, GSPNBlock):
        added = tokens[:, positions] + at(module.attention, module.norm1(tokens), size, positions)
        after: Tensor = added + module.mlp(module.norm2(added))
        return after
    assert isinstance(module, TokenMixer)
    return module.mix(tokens, size)[:, positions]


def scan4(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    *,
    chunk: int | None = None,
    rung: str = "r07",  # noqa: ARG001
    logits: bool = False,
) -> Tensor:
    """As ``ops.line_scan4``, in float64 on any device."""
    batch, channels, height, width = x.shape
    shared = shares_weights(w, ALL)
    groups = (batch, channels) if shared else (batch * channels, 1)
    plane = (height, width)
    made = []
    for direction, (own_lam, own_w) in each(ALL, lam, w):
        steps = height if direction in ("down", "up") else width
        problem = ScanProblem(
            batch,
            channels,
            height,
            width,
            direction=direction,
            chunk=None if chunk is None else min(chunk, steps),
            weights="shared" if shared else "channel",
            logits=logits,
        )
        h: Any = reference.forward(
            problem,
            x.reshape(*groups, *plane),
            own_lam.reshape(*groups, *plane),
            own_w.reshape(3, groups[0], 1, *plane),
        )
        made.append(h.reshape(x.shape))
    return torch.stack(made)
