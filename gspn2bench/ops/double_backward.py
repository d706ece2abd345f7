"""Second derivatives of the scan, composed of its two operators and elementwise products.

Backward computes g = S'(grad_h), where S is the scan with weights w and S' its adjoint, and returns
grad_x = lam g, grad_lam = x g and grad_w[k][i,p] = g[i,p] h[i-1,p+k] for k = -1, 0, 1. Let a, b and
c be the incoming gradients of these three, C[i] the tridiagonal matrix of c at line i, and

    q[i] = lam[i] a[i] + x[i] b[i] + C[i] h[i-1]    the gradient of g
    v    = S(q)                                     the gradient of grad_h

The gradient of x is then b g, that of lam is a g, that of h[i-1] is the transpose of C[i] times
g[i], and that of w is g[i,p] v[i-1,p+k], which is grad_w with v in place of h. So one scan gives v,
and one backward scan gives both g (grad_lam for x = 1) and the gradient of w.

Source: derived from arXiv 2501.12381, equations 1 to 3.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gspn2bench.ops.check import ALL, each, join
from gspn2bench.ops.lines import Lines, between_zeros, wide, with_channels


def double_backward(
    incoming: tuple[Tensor, Tensor, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    direction: str,
    chunk: int | None,
    rung: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the inputs of ``line_scan_backward``; differentiable again.

    Args:
        incoming: gradients of grad_x, grad_lam and grad_w, shaped like x, lam and w.
        inputs: grad_h, x, lam, w and h, as ``line_scan_backward`` takes them.
        direction: of the scan, or "all".
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes scans on a GPU, by id.

    Returns:
        Gradients of grad_h, x, lam, w and h, each with the shape of its input.
    """
    a, b, c = incoming
    grad_h, x, lam, w, h = inputs
    options = direction, chunk, rung
    ones = torch.ones_like(x)
    through_h = [_times(*tensors, lines) for tensors, lines in _scans(c, h, direction, chunk)]
    q = wide(lam) * wide(a) + wide(x) * wide(b) + join(direction, through_h)
    v = torch.ops.gspn2bench.line_scan(ones, q.to(lam.dtype), w, *options)
    _, g, grad_w = torch.ops.gspn2bench.line_scan_backward(grad_h, ones, lam, w, v, *options)
    grad_x = b * g
    grad_of_h = [_transposed(*tensors, lines) for tensors, lines in _scans(c, g, direction, chunk)]
    return (
        v,
        grad_x.sum(0) if direction == ALL else grad_x,
        a * g,
        grad_w,
        join(direction, grad_of_h).to(h.dtype),
    )


def _scans(
    c: Tensor, planes: Tensor, direction: str, chunk: int | None
) -> list[tuple[tuple[Tensor, Tensor], Lines]]:
    """For each direction: the lines of c and of the planes, both in the type of the sums."""
    scans = []
    for towards, (own_c, own_planes) in each(direction, c, planes):
        lines = Lines.of(own_planes, towards, chunk)
        taken = lines.take(with_channels(wide(own_c))), lines.take(wide(own_planes))
        scans.append((taken, lines))
    return scans


def _times(c: Tensor, h: Tensor, lines: Lines) -> Tensor:
    """C[i] h[i-1] as planes; 0 in the first line of a chunk."""
    before = between_zeros(h[:-1])
    positions = h.shape[-1]
    products = [c[1:, :, k] * before[..., k : k + positions] for k in range(3)]
    return lines.put(torch.cat([torch.zeros_like(h[:1]), sum(products, torch.zeros_like(h[1:]))]))


def _transposed(c: Tensor, g: Tensor, lines: Lines) -> Tensor:
    """The transpose of C[i+1] times g[i+1], as planes; 0 in the last line of a chunk."""
    products = [F.pad(c[1:, :, k] * g[1:], (k, 2 - k))[..., 1:-1] for k in range(3)]
    return lines.put(torch.cat([sum(products, torch.zeros_like(g[1:])), torch.zeros_like(g[:1])]))
