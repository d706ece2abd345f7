"""Stable weights: the weights of an element's three neighbours sum to 1.

Source: the Stability-Context Condition of arXiv 2501.12381, section 3.2.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gspn2bench.ops.check import ALL, check_weight_logits, each, join
from gspn2bench.ops.lines import wide
from gspn2bench.problem import Direction


def normalize_weights(logits: Tensor, *, direction: Direction = "down") -> Tensor:
    """Weights of a scan: the sigmoid of each logit, divided by the sum of the three.

    A neighbour outside the plane has weight 0 and is left out of the sum. A line of one element
    therefore has weight 1 in the middle. Computed in float32 (float64 for float64) as the softmax
    of log-sigmoids: the same function, without 0 / 0 for three very negative logits.

    Args:
        logits: of the left, middle and right neighbour, (3, N, C, H, W) or (3, N, H, W); floating
            point.
        direction: of the scan that uses the weights; it determines the axis of a line.

    Returns:
        w, like logits; each element is in [0, 1], and the three of a position sum to 1.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    check_weight_logits(logits, direction)
    return shares(logits, direction).to(logits.dtype)


def shares(logits: Tensor, direction: Direction) -> Tensor:
    """``normalize_weights`` without checks, in the type of the sums."""
    return logsigmoid(wide(logits)).masked_fill(outside(logits, direction), -torch.inf).softmax(0)


def outside(logits: Tensor, direction: Direction) -> Tensor:
    """Whether a logit belongs to a neighbour outside the plane, bool; broadcasts to the logits."""
    along = -1 if direction in ("down", "up") else -2
    line = torch.arange(logits.shape[along], device=logits.device)
    if along == -2:
        line = line[:, None]
    never = torch.zeros_like(line, dtype=torch.bool)
    mask = torch.stack([line == 0, never, line == logits.shape[along] - 1])
    while mask.dim() < logits.dim():
        mask = mask.unsqueeze(1)
    return mask


def weights_of(logits: Tensor, direction: str) -> Tensor:
    """``normalize_weights`` without checks for one scan, or for four where direction is "all"."""
    weights = [shares(own, towards) for towards, (own,) in each(direction, logits)]
    return join(direction, weights).to(logits.dtype)


def logits_gradient(logits: Tensor, w: Tensor, grad_w: Tensor, direction: str) -> Tensor:
    """The gradient of the logits, from that of their weights.

    With s the sigmoid of a logit a, ds = s (1 - s) da, and w is s divided by the sum of the three.
    Hence grad a_k = w_k (1 - s_k) (grad_w_k - sum of w_j grad_w_j).

    Args:
        logits: of one scan, or of four where direction is "all".
        w: ``weights_of(logits)``.
        grad_w: gradient of w, like w.
        direction: of the scan, or "all".

    Returns:
        The gradient, like logits.
    """
    neighbour = 1 if direction == ALL else 0
    weights, grad = wide(w), wide(grad_w)
    centred = grad - (weights * grad).sum(neighbour, keepdim=True)
    return (weights * (-wide(logits)).sigmoid() * centred).to(logits.dtype)
