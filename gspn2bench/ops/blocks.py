"""Backward of a scan, block by block, with h recomputed from kept lines: see checkpoints.py."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gspn2bench.ops.lines import wide, with_channels
from gspn2bench.ops.weights import logits_gradient, shares
from gspn2bench.problem import Direction


class Planes(NamedTuple):
    """The tensors of one scan. Gradients are written, and that of x is added to.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, like x.
        w: weights or logits, (3, N, C, H, W) or (3, N, H, W).
        grad: gradient of h, or of u h.
        grad_x: like x, in the type of the sums.
        grad_lam: like lam.
        grad_w: like w.
        u: output scale, like lam, or None.
        grad_u: like u.
    """

    x: Tensor
    lam: Tensor
    w: Tensor
    grad: Tensor
    grad_x: Tensor
    grad_lam: Tensor
    grad_w: Tensor
    u: Tensor | None = None
    grad_u: Tensor | None = None


class Settings(NamedTuple):
    """The arguments of a scan that are not tensors.

    Args:
        direction: of the scan.
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes on a GPU, by id.
        logits: whether w holds logits.
        keep_every: K: h is kept of the lines 0, K, 2 K, ... in scan order.
    """

    direction: Direction
    chunk: int | None
    rung: str
    logits: bool
    keep_every: int


class Block(NamedTuple):
    """Lines that are recomputed together, in scan order.

    Args:
        start: the first line.
        stop: the line after the last one.
        continues: whether the first line depends on the line before it. It is then a kept line.
    """

    start: int
    stop: int
    continues: bool


def blocks_of(steps: int, chunk: int, keep_every: int) -> Iterator[Block]:
    """The blocks of a scan, from the last to the first.

    A kept line starts a block. If chunks start within the lines up to the next kept line, the first
    of them starts a block too.

    Args:
        steps: lines of the scan.
        chunk: lines after which h restarts at 0.
        keep_every: K.
    """
    for start in reversed(range(0, steps, keep_every)):
        stop = min(start + keep_every, steps)
        restart = min(stop, -(-start // chunk) * chunk)
        if restart < stop:
            yield Block(restart, stop, continues=False)
        if start < restart:
            yield Block(start, restart, continues=True)


class ScanOrder(NamedTuple):
    """Access to the lines of planes in scan order.

    Args:
        axis: scanned axis of the plane, -2 or -1.
        reverse: whether the scan starts at the last line.
        steps: lines per plane.
    """

    axis: int
    reverse: bool
    steps: int

    @classmethod
    def of(cls, x: Tensor, direction: Direction) -> "ScanOrder":
        """The order of a scan over planes (..., H, W)."""
        axis = -2 if direction in ("down", "up") else -1
        return cls(axis, direction in ("up", "left"), x.shape[axis])

    def lines(self, planes: Tensor, block: Block) -> Tensor:
        """The lines of a block: a view of the planes."""
        start = self.steps - block.stop if self.reverse else block.start
        return planes.narrow(self.axis, start, block.stop - block.start)

    def line(self, planes: Tensor, index: int) -> Tensor:
        """One line, (..., positions): a view of the planes, which may be those of a block.

        Args:
            planes: (..., H, W).
            index: in scan order; -1 is the last line.
        """
        return planes.select(self.axis, -1 - index if self.reverse else index)

    def kept(self, planes: Tensor, keep_every: int) -> Tensor:
        """The lines 0, K, 2 K, ... in scan order, (lines, ..., positions): a view or a copy."""
        lines = planes.movedim(self.axis, 0)
        if not self.reverse:
            return lines[::keep_every]
        return lines[(self.steps - 1) % keep_every :: keep_every].flip(0)


def walk(planes: Planes, kept: Tensor, settings: Settings) -> None:
    """Backward of one scan: write the gradients.

    Args:
        planes: of the scan.
        kept: h of the lines 0, K, 2 K, ..., (lines, N, C, positions).
        settings: the other arguments.
    """
    order = ScanOrder.of(planes.x, settings.direction)
    chunk = min(settings.chunk or order.steps, order.steps)
    later: _FirstLine | None = None
    for block in blocks_of(order.steps, chunk, settings.keep_every):
        own_kept = kept[block.start // settings.keep_every] if block.continues else None
        later = _walk_block(planes, block, own_kept, order, settings, chunk, later)


class _FirstLine(NamedTuple):
    """The first line of a block, for the block before it.

    Args:
        number: of the line, in scan order.
        g: total gradient of h there, (N, C, positions).
        weights: (3, N, C, positions), with C = 1 if the channels share them.
    """

    number: int
    g: Tensor
    weights: Tensor


def _walk_block(
    planes: Planes,
    block: Block,
    kept: Tensor | None,
    order: ScanOrder,
    settings: Settings,
    chunk: int,
    later: _FirstLine | None,
) -> _FirstLine | None:
    """Write the gradients of a block, except the weight gradient of a first line that continues.

    Args:
        planes: of the scan.
        block: its lines.
        kept: h of its first line, if that continues.
        order: of the lines.
        settings: of the scan.
        chunk: lines after which h restarts at 0.
        later: the first line of the block after this one, if it continues.

    Returns:
        The first line if it continues, otherwise None.
    """
    x, lam, w, grad = (order.lines(t, block) for t in (planes.x, planes.lam, planes.w, planes.grad))
    starts_at_h = kept is not None
    inner_x, inner_lam = (_copy(t) if starts_at_h else t.contiguous() for t in (x, lam))
    if kept is not None:
        order.line(inner_x, 0).copy_(kept)
        order.line(inner_lam, 0).fill_(1)
    weights = _weights(w, settings)
    length = block.stop - block.start
    options = settings.direction, None if starts_at_h else min(chunk, length), settings.rung
    operators = torch.ops.gspn2bench
    h = operators.line_scan(inner_x, inner_lam, weights, *options)
    if planes.u is not None and planes.grad_u is not None:
        order.lines(planes.grad_u, block).copy_(h * grad)
        grad = order.lines(planes.u, block) * grad
    if later is not None:
        grad = _copy(grad)
        order.line(grad, -1).add_(_passed_back(later).to(grad.dtype))
        _write_weight_gradient(planes, later, order.line(h, -1), order, settings)
    grad_x, grad_lam, grad_w = operators.line_scan_backward(
        grad, inner_x, inner_lam, weights, h, *options
    )
    first = None
    if starts_at_h:
        g = order.line(grad_x, 0).clone()
        order.line(grad_x, 0).copy_(order.line(lam, 0) * g)
        order.line(grad_lam, 0).copy_(order.line(x, 0) * g)
        own = with_channels(weights) if weights.dim() == 4 else weights
        first = _FirstLine(block.start, g, order.line(own, 0))
    if settings.logits:
        grad_w = logits_gradient(w, weights, grad_w, settings.direction)
    order.lines(planes.grad_x, block).add_(grad_x)
    order.lines(planes.grad_lam, block).copy_(grad_lam)
    order.lines(planes.grad_w, block).copy_(grad_w)
    return first


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _weights(w: Tensor, settings: Settings) -> Tensor:
    return shares(w, settings.direction).to(w.dtype) if settings.logits else w


def _passed_back(later: _FirstLine) -> Tensor:
    """The gradient that a line passes to the line before it, (N, C, positions)."""
    products: list[Any] = [
        F.pad(weight * wide(later.g), (k, 2 - k))[..., 1:-1]
        for k, weight in enumerate(wide(later.weights))
    ]
    return sum(products[1:], products[0])  # type: ignore[no-any-return]


def _write_weight_gradient(
    planes: Planes, later: _FirstLine, before: Tensor, order: ScanOrder, settings: Settings
) -> None:
    """Write the weight gradient of a line.

    Args:
        planes: of the scan.
        later: the line.
        before: h of the line before it, (N, C, positions).
        order: of the lines.
        settings: of the scan.
    """
    neighbours, g = F.pad(wide(before), (1, 1)), wide(later.g)
    grad = torch.stack([g * neighbours[..., k : k + g.shape[-1]] for k in range(3)])
    if planes.w.dim() == 4:
        grad = grad.sum(2)
    line = Block(later.number, later.number + 1, continues=True)
    target = order.lines(planes.grad_w, line)
    grad = grad.unsqueeze(order.axis).to(target.dtype)
    if settings.logits:
        weights = later.weights.squeeze(2) if planes.w.dim() == 4 else later.weights
        weights = weights.unsqueeze(order.axis)
        grad = logits_gradient(order.lines(planes.w, line), weights, grad, settings.direction)
    target.copy_(grad)
