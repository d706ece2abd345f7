"""A scan that keeps h of every K-th line for backward, not of all: gspn2bench::checkpointed_scan.

Forward is the scan of the other operators. Of h it keeps the lines 0, K, 2 K, ... in scan order.
Backward walks the blocks of K lines from the last to the first. It recomputes h of a block from its
kept line, and then runs the backward of a scan on the block: see blocks.py.

Neither needs a kernel of its own. A block is a scan that starts with its kept line: there lam is
set to 1 and x to h. Backward of this scan returns the total gradient g of the kept line as its
grad_x, because lam is 1. The block before it takes over from there: g times the weights is added to
the gradient of its last line, and g times the h of that line is the weight gradient of the kept
line. Where a chunk starts, nothing is passed on.

Source: ours; recomputation from checkpoints, arXiv 1604.06174.
"""

from typing import Any, Final, Literal

import torch
from torch import Tensor

from gspn2bench.ops.blocks import Planes, ScanOrder, Settings, walk
from gspn2bench.ops.check import ALL, check, check_like, each
from gspn2bench.ops.library import scan, scan_backward
from gspn2bench.ops.lines import wide
from gspn2bench.ops.scaled import scaled_scans
from gspn2bench.ops.weights import logits_gradient, weights_of
from gspn2bench.problem import ceil_div

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
KeepEvery = int | Literal["auto"]

AUTO_BLOCKS: Final = 16
"""Most blocks of "auto"."""
AUTO_LINES: Final = 16
"""Fewest lines per block of "auto"."""


def checkpointed_scan(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool,
    keep_every: KeepEvery,
) -> Tensor:
    """H, or u h, of one scan or of four; backward recomputes h.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, like x, or (4, N, C, H, W).
        w: weights or logits, see ``library.scan``.
        u: output scale, like lam, for four scans only; None: the result is h.
        direction: of the scan, or "all".
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes on a GPU, by id.
        logits: whether w holds logits.
        keep_every: K, at least 1; "auto": 16 blocks, or fewer of 16 lines.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    if keep_every == "auto":
        keep_every = _auto(x, direction)
    out, _ = checkpointed(x, lam, w, u, direction, chunk, rung, logits, keep_every)
    return out  # type: ignore[no-any-return]


def _auto(x: Tensor, direction: str) -> int:
    """K of "auto", for the longest scan of the call; sizes may be symbolic."""
    if x.dim() != 4:
        return AUTO_LINES  # the operator refuses x
    height, width = x.shape[-2:]
    if direction == ALL:
        steps = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
    else:
        steps = height if direction in ("down", "up") else width
    lines: int = torch.sym_max(ceil_div(steps, AUTO_BLOCKS), AUTO_LINES)  # type: ignore[no-untyped-call]
    return lines


def _check(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    direction: str,
    chunk: int | None,
    rung: str,
    keep_every: int,
) -> None:
    check(x, lam, w, direction, chunk, rung)
    if u is not None:
        if direction != ALL:
            raise ValueError(f"u: given with direction {direction!r}, expected {ALL!r}")
        check_like("u", u, lam)
    if keep_every < 1:
        raise ValueError(f"keep_every: {keep_every} is below 1")


@torch.library.custom_op("gspn2bench::checkpointed_scan", mutates_args=())
def checkpointed(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool,
    keep_every: int,
) -> tuple[Tensor, Tensor]:
    """The result, and the kept lines of each scan one after another, of one axis.

    The kept lines of a scan are (lines, N, C, positions). Arguments and errors are those of
    ``checkpointed_scan``.
    """
    _check(x, lam, w, u, direction, chunk, rung, keep_every)
    if u is None:
        h = out = scan(x, lam, w, direction, chunk, rung, logits)
    else:
        out, h = scaled_scans(x, lam, w, u, chunk, rung, logits, with_h=True)
    kept = [
        ScanOrder.of(own, towards).kept(own, keep_every).flatten()
        for towards, (own,) in each(direction, h)
    ]
    return out, torch.cat(kept)


@checkpointed.register_fake
def _(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool,  # noqa: ARG001
    keep_every: int,
) -> tuple[Tensor, Tensor]:
    _check(x, lam, w, u, direction, chunk, rung, keep_every)
    batch, channels, height, width = x.shape
    rows = ceil_div(height, keep_every) * width
    columns = ceil_div(width, keep_every) * height
    kept = {ALL: 2 * (rows + columns), "down": rows, "up": rows}.get(direction, columns)
    out = lam.new_empty(lam.shape) if u is None else torch.empty_like(lam)
    return out, lam.new_empty(batch * channels * kept)


@torch.library.custom_op("gspn2bench::checkpointed_scan_backward", mutates_args=())
def checkpointed_backward(
    grad: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    kept: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool,
    keep_every: int,
) -> Gradients:
    """Gradients of x, lam, w and u; that of u has no elements if there is no u.

    Arguments are those of ``checkpointed``: its results' gradient, its inputs, and the kept lines.
    """
    _check(x, lam, w, u, direction, chunk, rung, keep_every)
    check_like("grad", grad, lam)
    grad_lam, grad_w = torch.empty_like(lam), torch.empty_like(w)
    grad_u = lam.new_empty(0) if u is None else torch.empty_like(lam)
    if lam.numel() == 0:
        return torch.empty_like(x), grad_lam, grad_w.zero_(), grad_u
    grad_x = torch.zeros_like(wide(x))
    tensors = [lam, w, grad, grad_lam, grad_w, *([] if u is None else [u, grad_u])]
    for towards, (own_lam, own_w, own_grad, *rest) in each(direction, *tensors):
        planes = Planes(x, own_lam, own_w, own_grad, grad_x, *rest)
        shape = _kept_shape(x, towards, keep_every)
        own_kept, kept = kept.tensor_split([shape.numel()])
        settings = Settings(towards, chunk, rung, logits, keep_every)
        walk(planes, own_kept.view(shape), settings)
    return grad_x.to(x.dtype), grad_lam, grad_w, grad_u


@checkpointed_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    kept: Tensor,  # noqa: ARG001
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool,  # noqa: ARG001
    keep_every: int,
) -> Gradients:
    _check(x, lam, w, u, direction, chunk, rung, keep_every)
    check_like("grad", grad, lam)
    grad_u = lam.new_empty(0) if u is None else torch.empty_like(lam)
    return torch.empty_like(x), torch.empty_like(lam), torch.empty_like(w), grad_u


def _kept_shape(x: Tensor, direction: Any, keep_every: int) -> torch.Size:
    """Shape of the kept lines of one scan: (lines, N, C, positions)."""
    order = ScanOrder.of(x, direction)
    positions = x.shape[-1] if order.axis == -2 else x.shape[-2]
    return torch.Size((ceil_div(order.steps, keep_every), *x.shape[:2], positions))


# Gradients.


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, lam, w, u, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, lam, w, u, output[1])


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    x, lam, w, u, kept = ctx.saved_tensors
    if grad is None:
        return (None,) * 9
    compute = _again if torch.is_grad_enabled() else _from_kept_lines
    return *compute(ctx.options, grad, x, lam, w, u, kept), None, None, None, None, None


def _from_kept_lines(
    options: list[Any], grad: Tensor, x: Tensor, lam: Tensor, w: Tensor, u: Any, kept: Tensor
) -> tuple[Tensor | None, ...]:
    *gradients, grad_u = checkpointed_backward(grad, x, lam, w, u, kept, *options)
    return *gradients, None if u is None else grad_u


def _again(
    options: list[Any], grad: Tensor, x: Tensor, lam: Tensor, w: Tensor, u: Any, _: Tensor
) -> tuple[Tensor | None, ...]:
    """The same by operators that are differentiable themselves; all of h is recomputed."""
    direction, chunk, rung, logits, _ = options
    h = scan(x, lam, w, direction, chunk, rung, logits)
    weights = weights_of(w, direction) if logits else w
    total = grad if u is None else u * grad
    grad_x, grad_lam, grad_w = scan_backward(total, x, lam, weights, h, direction, chunk, rung)
    if logits:
        grad_w = logits_gradient(w, weights, grad_w, direction)
    return grad_x, grad_lam, grad_w, None if u is None else h * grad


checkpointed.register_autograd(_backward, setup_context=_save_for_backward)
