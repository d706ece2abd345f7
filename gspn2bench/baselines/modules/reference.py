"""The reference of a module: the module itself in float64, on the same parameters and inputs.

Scans use ``kernels.reference``; softmax attention is written out. Attention computes a different
function from a scan, so each module has its own reference.
"""

import copy
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from gspn2bench.kernels import reference
from gspn2bench.nn import GSPNBlock
from gspn2bench.nn.attention import FourScans
from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.nn.softmax import SoftmaxAttention, TorchAttention
from gspn2bench.ops.check import ALL, each, shares_weights, split_bias
from gspn2bench.problem import ScanProblem

SCORES_BYTES: Final = 2**32
"""Most bytes of attention's scores in one block of positions; a backward needs about four times."""


def float64_copy(module: nn.Module) -> nn.Module:
    """Copy a module to float64, with the reference scan in its place; it is differentiable."""
    copied = copy.deepcopy(module).double()
    for part in copied.modules():
        if isinstance(part, FourScans):
            part.scan4 = scan4
    return copied


def output_blocks(module: nn.Module, x: Tensor, *arguments: Size) -> Iterator[tuple[slice, Tensor]]:
    """Yield the output of a reference module at every position, in blocks of positions.

    Attention writes out its scores, which grow with the square of the positions. One block has at
    most ``SCORES_BYTES`` of them. Every other module has a single block.

    Args:
        module: from ``float64_copy``.
        x: float64 input of the module, (N, L, C) or (N, C, H, W).
        arguments: height and width, if the module mixes tokens.

    Yields:
        The positions of a block, and the output there.
    """
    if not isinstance(module, TokenMixer):
        yield slice(None), module(x)
        return
    batch, tokens = x.shape[:2]
    scores = batch * _heads(module) * tokens * x.element_size()
    length = max(1, SCORES_BYTES // scores) if scores else tokens
    for start in range(0, tokens, length):
        positions = torch.arange(start, min(start + length, tokens), device=x.device)
        y = output_at(module, x, arguments[0], positions)
        yield slice(start, start + length), y


def output_at(module: nn.Module, tokens: Tensor, size: Size, positions: Tensor) -> Tensor:
    """The output of a reference token mixer at some positions.

    Attention computes these positions only.

    Args:
        module: from ``float64_copy``.
        tokens: (N, L, C), float64.
        size: height and width, with L = height * width.
        positions: indices of tokens, (P,).

    Returns:
        (N, P, C).
    """
    if isinstance(module, (SoftmaxAttention, TorchAttention)):
        return module.at(tokens, positions)
    if isinstance(module, GSPNBlock):
        mixed = output_at(module.attention, module.norm1(tokens), size, positions)
        residual = tokens[:, positions] + mixed
        y: Tensor = residual + module.mlp(module.norm2(residual))
        return y
    assert isinstance(module, TokenMixer)
    return module.mix(tokens, size)[:, positions]


def _heads(module: nn.Module) -> int:
    """The heads of attention, alone or in a block; 0 for other modules."""
    mixer = module.attention if isinstance(module, GSPNBlock) else module
    if isinstance(mixer, TorchAttention):
        return int(mixer.inner.num_heads)
    return mixer.heads if isinstance(mixer, SoftmaxAttention) else 0


def scan4(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    *,
    u: Tensor | None = None,
    bias: Tensor | None = None,
    chunk: int | None = None,
    rung: str = "r07",  # noqa: ARG001
    logits: bool = False,
    keep_every: object = None,  # noqa: ARG001  autograd keeps every line here
) -> Tensor:
    """``ops.line_scan4`` in float64, on any device; shapes and errors are the same."""
    if bias is not None:
        assert u is not None
        of_x, of_lam, of_u, of_w = split_bias(bias, x, w)
        x, lam, u, w = x + of_x, lam + of_lam, u + of_u, w + of_w
    batch, channels, height, width = x.shape
    shared = shares_weights(w, ALL)
    groups = (batch, channels) if shared else (batch * channels, 1)
    plane = (height, width)
    outputs = []
    for direction, (scan_lam, scan_w) in each(ALL, lam, w):
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
            scan_lam.reshape(*groups, *plane),
            scan_w.reshape(3, groups[0], 1, *plane),
        )
        outputs.append(h.reshape(x.shape))
    h = torch.stack(outputs)
    scaled: Tensor = h if u is None else u * h
    return scaled
