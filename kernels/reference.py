"""The scan in float64, written to be read. The gate compares every rung with it.

It takes NumPy arrays and torch tensors, in groups that share weights: x, lam and h of shape
(G, M, H, W) and w of shape (3, G, 1, H, W). With weights per channel G = N * C and M = 1; with
shared weights G = N and M = C.

Source: arXiv 2501.12381, equations 1 to 3; the adjoint follows from them.
"""

from typing import Any

import numpy as np
import torch

from gspn2bench.problem import ScanProblem

Tensor = Any
"""A float64 ndarray or torch.Tensor."""


def forward(problem: ScanProblem, x: Tensor, lam: Tensor, w: Tensor) -> Tensor:
    """H of the whole scan.

    h[i,p] = wl[i,p] h[i-1,p-1] + wm[i,p] h[i-1,p] + wr[i,p] h[i-1,p+1] + lam[i,p] x[i,p]. h is 0
    before the first line of a chunk, and so is a neighbour outside the line.

    Args:
        problem: gives direction and chunk; the sizes are those of the tensors.
        x: input, (G, M, H, W), float64.
        lam: input scale, like x.
        w: weights, (3, G, 1, H, W), or their logits if ``problem.logits``.

    Returns:
        h, like x.
    """
    if problem.logits:
        w = normalize(problem, w)
    x, lam, w = (_lines(problem, t) for t in (x, lam, w))
    drive = lam * x
    h: dict[int, Tensor] = {}
    for i, before in _order(problem):
        h[i] = drive[..., i, :]
        if before is not None:
            left, right = _neighbours(h[before])
            weight = w[..., i, :]
            h[i] = h[i] + weight[0] * left + weight[1] * h[before] + weight[2] * right
    return _lines(problem, _stack(h))


def normalize(problem: ScanProblem, logits: Tensor) -> Tensor:
    """Weights of logits: sigmoids over their sum, without neighbours outside the line.

    Computed as the softmax of log-sigmoids, which is the same but does not give 0 / 0 for very
    negative logits. log sigmoid(a) = min(a, 0) - log(1 + e^-|a|).

    Args:
        problem: gives the direction; the sizes are those of the tensor.
        logits: of the left, middle and right neighbour, (3, G, 1, H, W), float64.

    Returns:
        w, like logits; the three weights of a position sum to 1.
    """
    logs = _lines(problem, logits)
    xp = _namespace(logs)
    logs = (logs - abs(logs)) / 2 - xp.log1p(xp.exp(-abs(logs)))
    logs[0, ..., 0] = logs[2, ..., -1] = -np.inf
    shares = xp.exp(logs - xp.amax(logs, 0))
    return _lines(problem, shares / shares.sum(0))


def backward(
    problem: ScanProblem, grad_h: Tensor, x: Tensor, lam: Tensor, w: Tensor, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, lam and w.

    The whole gradient of h[i] gathers from the next line: g[i] = grad_h[i] + w[i+1]^T g[i+1]. Then
    dx = lam g, dlam = x g and dw_k[i,p] = g[i,p] h[i-1,p+k] for k = -1, 0, 1, where dw is summed
    over the channels of a group.

    Args:
        problem: gives direction and chunk; the sizes are those of the tensors.
        grad_h: incoming gradient of h, (G, M, H, W), float64.
        x: input, like grad_h.
        lam: input scale, like grad_h.
        w: weights, (3, G, 1, H, W).
        h: the forward's result, like grad_h.

    Returns:
        grad_x and grad_lam, like x; grad_w, like w.
    """
    grad_h, x, lam, w, h = (_lines(problem, t) for t in (grad_h, x, lam, w, h))
    g: dict[int, Tensor] = {}
    grad_w: dict[int, Tensor] = {}
    carried = None  # w[i+1]^T g[i+1]
    for i, before in reversed(_order(problem)):
        g[i] = grad_h[..., i, :] if carried is None else grad_h[..., i, :] + carried
        if before is None:
            carried = None
            grad_w[i] = _zeros_like(w[..., i, :])
            continue
        weight = w[..., i, :]
        # h[i,p] weights p-1 with wl and p+1 with wr, so p gets back wl g of p+1 and wr g of p-1.
        from_right = _neighbours(weight[0] * g[i])[1]
        from_left = _neighbours(weight[2] * g[i])[0]
        carried = from_right + weight[1] * g[i] + from_left
        left, right = _neighbours(h[..., before, :])
        neighbours = (left, h[..., before, :], right)
        sums = [(g[i] * neighbour).sum(1)[:, None] for neighbour in neighbours]
        grad_w[i] = _namespace(w).stack(sums, 0)
    total = _stack(g)
    grads = (lam * total, x * total, _stack(grad_w))
    return tuple(_lines(problem, t) for t in grads)


def _order(problem: ScanProblem) -> list[tuple[int, int | None]]:
    """Lines in scan order, each with the previous line, or None where h starts at 0."""
    steps = list(range(problem.steps))
    if problem.direction in ("up", "left"):
        steps.reverse()
    return [
        (i, None if k % problem.chunk_length == 0 else steps[k - 1]) for k, i in enumerate(steps)
    ]


def _lines(problem: ScanProblem, tensor: Tensor) -> Tensor:
    """Move lines to the second-to-last axis and their positions to the last; its own inverse."""
    return tensor if problem.vertical else tensor.swapaxes(-1, -2)


def _neighbours(line: Tensor) -> tuple[Tensor, Tensor]:
    """The left and the right neighbour of every position; 0 outside the line."""
    xp = _namespace(line)
    zero = _zeros_like(line[..., :1])
    left = xp.concatenate([zero, line[..., :-1]], -1)
    right = xp.concatenate([line[..., 1:], zero], -1)
    return left, right


def _stack(lines: dict[int, Tensor]) -> Tensor:
    ordered = [lines[i] for i in sorted(lines)]
    return _namespace(ordered[0]).stack(ordered, -2)


def _zeros_like(tensor: Tensor) -> Tensor:
    return _namespace(tensor).zeros_like(tensor)


def _namespace(tensor: Tensor) -> Any:
    return torch if isinstance(tensor, torch.Tensor) else np
