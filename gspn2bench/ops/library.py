"""The scan and its gradient as torch operators: gspn2bench::line_scan and line_scan_backward.

Each has an implementation for the CPU, one for GPUs, and a fake one for tensors without data (meta
device, torch.compile, torch.export). Each checks its arguments first. Where direction is "all", one
x is scanned in the four directions, and lam, w and h have a leading axis of 4.
"""

from typing import Any

import torch
from torch import Tensor

from gspn2bench.ops import cpu, gpu
from gspn2bench.ops.check import ALL, check, check_like, each, join
from gspn2bench.ops.double_backward import double_backward
from gspn2bench.ops.forward_mode import refuse_forward_mode
from gspn2bench.ops.weights import logits_gradient, shares, weights_of

Gradients = tuple[Tensor, Tensor, Tensor]


@torch.library.custom_op("gspn2bench::line_scan", mutates_args=(), device_types="cpu")
def scan(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool = False,
) -> Tensor:
    """H of one scan or of four.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, like x, or (4, N, C, H, W).
        w: weights, (3, N, C, H, W) or (3, N, H, W), or four of them.
        direction: of the scan, or "all".
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes on a GPU, by id.
        logits: whether w holds logits, which are normalized as ``normalize_weights`` does.

    Returns:
        h, like lam.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    check(x, lam, w, direction, chunk, rung)
    if lam.numel() == 0:
        return lam.new_empty(lam.shape)
    planes = [
        cpu.forward(
            x,
            one_lam,
            shares(one_w, towards) if logits else one_w,
            direction=towards,
            chunk=chunk,
        )
        for towards, (one_lam, one_w) in each(direction, lam, w)
    ]
    return join(direction, planes)


@scan.register_kernel("cuda")
def _(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool = False,
) -> Tensor:
    check(x, lam, w, direction, chunk, rung)
    return gpu.forward(x, lam, w, direction, chunk, rung, logits)


@scan.register_fake
def _(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool = False,  # noqa: ARG001
) -> Tensor:
    check(x, lam, w, direction, chunk, rung)
    return lam.new_empty(lam.shape)


@torch.library.custom_op("gspn2bench::line_scan_backward", mutates_args=(), device_types="cpu")
def scan_backward(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> Gradients:
    """Gradients of x, lam and w; arguments and errors as ``scan``, grad_h and h like lam."""
    _check_backward(grad_h, x, lam, w, h, direction, chunk, rung)
    if lam.numel() == 0:
        return x.new_zeros(x.shape), lam.new_zeros(lam.shape), w.new_zeros(w.shape)
    gradients = [
        cpu.backward(x, *own, direction=towards, chunk=chunk)
        for towards, own in each(direction, lam, w, h, grad_h)
    ]
    grad_x, grad_lam, grad_w = (
        join(direction, list(of_one)) for of_one in zip(*gradients, strict=True)
    )
    grad_x = _over_directions(direction, grad_x)
    return grad_x.to(x.dtype).contiguous(), grad_lam.to(x.dtype).contiguous(), grad_w


@scan_backward.register_kernel("cuda")
def _(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> Gradients:
    _check_backward(grad_h, x, lam, w, h, direction, chunk, rung)
    grad_x, grad_lam, grad_w = gpu.backward(grad_h, x, lam, w, h, direction, chunk, rung)
    return _over_directions(direction, grad_x), grad_lam, grad_w


@scan_backward.register_fake
def _(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> Gradients:
    _check_backward(grad_h, x, lam, w, h, direction, chunk, rung)
    return x.new_empty(x.shape), lam.new_empty(lam.shape), w.new_empty(w.shape)


def _check_backward(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> None:
    check(x, lam, w, direction, chunk, rung)
    check_like("grad_h", grad_h, lam)
    check_like("h", h, lam)


def _over_directions(direction: str, grad_x: Tensor) -> Tensor:
    return grad_x.sum(0) if direction == ALL else grad_x


# Gradients of the scan.


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, lam, w, ctx.direction, ctx.chunk, ctx.rung, ctx.logits = inputs
    ctx.save_for_backward(x, lam, w, output)


def _backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
    x, lam, weights_or_logits, h = ctx.saved_tensors
    refuse_forward_mode(grad_h, x, lam, weights_or_logits, h)
    w = weights_of(weights_or_logits, ctx.direction) if ctx.logits else weights_or_logits
    grad_x, grad_lam, grad_w = scan_backward(
        grad_h, x, lam, w, h, ctx.direction, ctx.chunk, ctx.rung
    )
    if ctx.logits:
        grad_w = logits_gradient(weights_or_logits, w, grad_w, ctx.direction)
    return grad_x, grad_lam, grad_w, None, None, None, None


scan.register_autograd(_backward, setup_context=_save_for_backward)


# Gradients of the gradients.


def _save_for_double_backward(ctx: Any, inputs: tuple[Any, ...], output: Gradients) -> None:  # noqa: ARG001
    *tensors, ctx.direction, ctx.chunk, ctx.rung = inputs
    ctx.save_for_backward(*tensors)


def _double_backward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor | None, ...]:
    refuse_forward_mode(a, b, c, *ctx.saved_tensors)
    gradients = double_backward((a, b, c), ctx.saved_tensors, ctx.direction, ctx.chunk, ctx.rung)
    return *gradients, None, None, None


scan_backward.register_autograd(_double_backward, setup_context=_save_for_double_backward)
