"""The scan on a CPU: a loop over the lines in torch, with everything else in one operation.

Each line has a zero before its first and after its last position, so a neighbour outside the plane
needs no special case. 16-bit types are computed in float32, as in the kernels; float64 stays.

Source: arXiv 2501.12381, equations 1 to 3; the adjoint follows from them.
"""

import torch
from torch import Tensor

from gspn2bench.ops.lines import Lines, between_zeros, wide, with_channels
from gspn2bench.problem import Direction


def forward(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    *,
    direction: Direction,
    chunk: int | None,
    out: Tensor | None = None,
) -> Tensor:
    """H of one scan.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, like x.
        w: weights, (3, N, C, H, W) or (3, N, H, W).
        direction: of the scan.
        chunk: lines after which h restarts at 0; None, or more lines than there are: never.
        out: tensor that receives h; None: a new one.

    Returns:
        h, like x, contiguous.
    """
    lines = Lines.of(x, direction, chunk)
    positions = x.shape[-1] if lines.axis == -2 else x.shape[-2]
    weights = lines.take(with_channels(wide(w))).contiguous()
    h = between_zeros(lines.take(wide(lam) * wide(x)))
    for before, line, weight in zip(h[:-1], h[1:], weights[1:], strict=True):
        inner = line[..., 1:-1]
        for k in range(3):
            inner.addcmul_(weight[:, k], before[..., k : k + positions])
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    return result.copy_(lines.put(h[..., 1:-1]))


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
        x: input, as for ``forward``.
        lam: input scale.
        w: weights.
        h: result of ``forward``.
        grad_h: gradient of h, like h.
        direction: of the scan.
        chunk: as for ``forward``.

    Returns:
        grad_x and grad_lam in the type of the sums, so directions can be added, and grad_w like w.
    """
    lines = Lines.of(x, direction, chunk)
    positions = x.shape[-1] if lines.axis == -2 else x.shape[-2]
    weights = between_zeros(lines.take(with_channels(wide(w))))
    g = between_zeros(lines.take(wide(grad_h)))  # becomes the total gradient of h, line by line
    for i in reversed(range(lines.length - 1)):
        inner, after, weight = g[i, ..., 1:-1], g[i + 1], weights[i + 1]
        for k in range(3):  # position p is the left neighbour of p + 1, which weights it by wl
            shifted = slice(2 - k, 2 - k + positions)
            inner.addcmul_(weight[:, k, ..., shifted], after[..., shifted])

    return gradients(lines, g[..., 1:-1], x, lam, w, h)


def gradients(
    lines: Lines, g: Tensor, x: Tensor, lam: Tensor, w: Tensor, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of ``backward``, from the total gradient of h.

    Args:
        lines: of the scan.
        g: total gradient of h, (length, chunks, N, C, positions), as returned by ``lines.take``.
        x: input, as for ``forward``.
        lam: input scale.
        w: weights.
        h: result of ``forward``.
    """
    total = lines.put(g)
    neighbours = between_zeros(lines.take(wide(h))[:-1])
    grads = [g[1:] * neighbours[..., k : k + g.shape[-1]] for k in range(3)]
    if w.dim() == 4:
        grads = [grad.sum(-2, keepdim=True) for grad in grads]
    grad_w = torch.stack(grads, 2)
    first = grad_w.new_zeros(1, *grad_w.shape[1:])
    grad_w = lines.put(torch.cat([first, grad_w])).to(w.dtype)
    return wide(lam) * total, wide(x) * total, grad_w.reshape(w.shape).contiguous()
