"""The scan and its gradient as operators of torch: gspn2bench::line_scan and line_scan_backward.

Each has an implementation for the CPU, one for GPUs, and one for tensors without data (meta and
torch.compile), and each checks its arguments first. Where direction is "all", the scans run in the
four directions of one x, and lam, w and h have an axis of four in front.
"""

from typing import Any

import torch
from torch import Tensor

from gspn2bench.ops import cpu, gpu
from gspn2bench.ops.check import ALL, check, check_like, each
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
        chunk: lines after which h restarts at 0, or None.
        rung: whose kernels run on a GPU.
        logits: whether w holds logits, which are normalized as ``normalize_weights`` does.

    Returns:
        h, like lam.

    Raises:
        ValueError: names the argument, what it is and what was expected.
    """
    check(x, lam, w, direction, chunk, rung)
    made = [
        cpu.forward(
            x, one_lam, shares(one, towards) if logits else one, direction=towards, chunk=chunk
        )
        for towards, (one_lam, one) in each(direction, lam, w)
    ]
    return _join(direction, made)


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
    made = [
        cpu.backward(x, *own, direction=towards, chunk=chunk)
        for towards, own in each(direction, lam, w, h, grad_h)
    ]
    grad_x, grad_lam, grad_w = (_join(direction, list(grads)) for grads in zip(*made, strict=True))
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


def _join(direction: str, tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors) if direction == ALL else tensors[0]


def _over_directions(direction: str, grad_x: Tensor) -> Tensor:
    return grad_x.sum(0) if direction == ALL else grad_x


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, lam, w, ctx.direction, ctx.chunk, ctx.rung, ctx.logits = inputs
    ctx.save_for_backward(x, lam, w, output)


def _gradients(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
    x, lam, given, h = ctx.saved_tensors
    w = weights_of(given, ctx.direction) if ctx.logits else given
    grad_x, grad_lam, grad_w = scan_backward(
        grad_h, x, lam, w, h, ctx.direction, ctx.chunk, ctx.rung
    )
    if ctx.logits:
        grad_w = logits_gradient(given, w, grad_w, ctx.direction)
    return grad_x, grad_lam, grad_w, None, None, None, None


scan.register_autograd(_gradients, setup_context=_keep)
