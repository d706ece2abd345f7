"""The scan on a CPU: a loop over the lines, in torch, of everything else at once.

Lines of all images, channels and chunks are side by side, with a zero before their first position
and after their last, so that a neighbour outside is read like any other. 16-bit types are computed
in float32, as the kernels do; float64 stays float64.

Source: arXiv 2501.12381, equations 1 to 3; the adjoint follows from them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gspn2bench.problem import Direction


@dataclass(frozen=True)
class _Lines:
    """The way from planes to lines in the order of the scan, chunks side by side, and back.

    Args:
        axis: of the plane that is scanned, -2 or -1.
        reverse: whether the scan starts at the last line.
        steps: lines of a plane.
        length: lines of a chunk.
    """

    axis: int
    reverse: bool
    steps: int
    length: int

    @classmethod
    def of(cls, x: Tensor, direction: Direction, chunk: int | None) -> "_Lines":
        axis = -2 if direction in ("down", "up") else -1
        steps = x.shape[axis]
        return cls(axis, direction in ("up", "left"), steps, min(chunk or steps, steps))

    def take(self, planes: Tensor) -> Tensor:
        """(..., H, W) to (length, chunks, ..., positions); a last, short chunk ends in zeros."""
        lines = planes.movedim(self.axis, 0)
        if self.reverse:
            lines = lines.flip(0)
        missing = -self.steps % self.length
        if missing:
            lines = torch.cat([lines, lines.new_zeros(missing, *lines.shape[1:])])
        return lines.reshape(-1, self.length, *lines.shape[1:]).transpose(0, 1)

    def put(self, lines: Tensor) -> Tensor:
        """The inverse of ``take``."""
        planes = lines.transpose(0, 1).flatten(0, 1)[: self.steps]
        if self.reverse:
            planes = planes.flip(0)
        return planes.movedim(0, self.axis)


def forward(
    x: Tensor, lam: Tensor, w: Tensor, *, direction: Direction, chunk: int | None
) -> Tensor:
    """H of one scan.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, like x.
        w: weights, (3, N, C, H, W) or (3, N, H, W).
        direction: of the scan.
        chunk: lines after which h restarts at 0; None, or more than there are, for never.

    Returns:
        h, like x, contiguous.
    """
    lines = _Lines.of(x, direction, chunk)
    positions = x.shape[-1] if lines.axis == -2 else x.shape[-2]
    weights = lines.take(_with_channels(_wide(w))).contiguous()
    h = _between_zeros(lines.take(_wide(lam) * _wide(x)))
    for before, line, weight in zip(h[:-1], h[1:], weights[1:], strict=True):
        inner = line[..., 1:-1]
        for k in range(3):
            inner.addcmul_(weight[:, k], before[..., k : k + positions])
    return lines.put(h[..., 1:-1]).to(x.dtype).contiguous()


def backward(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    grad_h: Tensor,
    *,
    direction: Direction,
    chunk: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one scan.

    Args:
        x: as ``forward``, like lam and w.
        lam: input scale.
        w: weights.
        h: forward's result.
        grad_h: gradient of h, like h.
        direction: of the scan.
        chunk: as forward's.

    Returns:
        grad_x and grad_lam in the wide type, so that directions can be summed, and grad_w like w.
    """
    lines = _Lines.of(x, direction, chunk)
    positions = x.shape[-1] if lines.axis == -2 else x.shape[-2]
    per_channel = _with_channels(_wide(w))
    weights = _between_zeros(lines.take(per_channel))
    g = _between_zeros(lines.take(_wide(grad_h)))  # the whole gradient of h, once its line is done
    for i in reversed(range(lines.length - 1)):
        inner, after, weight = g[i, ..., 1:-1], g[i + 1], weights[i + 1]
        for k in range(3):  # position p was the left neighbour of p + 1, and so takes wl from there
            at = slice(2 - k, 2 - k + positions)
            inner.addcmul_(weight[:, k, ..., at], after[..., at])

    whole = lines.put(g[..., 1:-1])
    near = _between_zeros(lines.take(_wide(h))[:-1])
    grads = [g[1:, ..., 1:-1] * near[..., k : k + positions] for k in range(3)]
    if per_channel.shape[2] != x.shape[1]:
        grads = [grad.sum(-2, keepdim=True) for grad in grads]
    grad_w = torch.stack(grads, 2)
    first = grad_w.new_zeros(1, *weights.shape[1:-1], positions)
    grad_w = lines.put(torch.cat([first, grad_w])).to(w.dtype)
    return _wide(lam) * whole, _wide(x) * whole, grad_w.reshape(w.shape).contiguous()


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _with_channels(w: Tensor) -> Tensor:
    """(3, N, C, H, W), with one channel where they share their weights."""
    return w if w.dim() == 5 else w.unsqueeze(2)


def _between_zeros(lines: Tensor) -> Tensor:
    """A copy with a zero on either side of every line."""
    return F.pad(lines, (1, 1))
