"""Stable weights: the neighbours of an element share 1 between them.

Source: the Stability-Context Condition of arXiv 2501.12381, section 3.2.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gspn2bench.ops.check import ALL, check_weight_logits, each
from gspn2bench.ops.lines import wide
from gspn2bench.problem import Direction


def normalize_weights(logits: Tensor, *, direction: Direction = "down") -> Tensor:
    """Weights of a scan: the sigmoid of each logit, over the sum of the three.

    The neighbour that would lie outside the plane has weight 0 and is left out of the sum, so that
    a line of one element has the weight 1 in the middle. Computed in float32 (float64 of float64)
    as the softmax of log-sigmoids, which is the same and does not divide 0 by 0.

    Args:
        logits: of the left, middle and right neighbour, (3, N, C, H, W) or (3, N, H, W); floating
            point.
        direction: of the scan that the weights are for; it says on which axis a line lies.

    Returns:
        w, like logits, each element in [0, 1], the three of a position summing to 1.

    Raises:
        ValueError: names the argument, what it is and what was expected.
    """
    check_weight_logits(logits, direction)
    return shares(logits, direction).to(logits.dtype)


def shares(logits: Tensor, direction: Direction) -> Tensor:
    """``normalize_weights`` without its checks, in the type that it computes in."""
    return logsigmoid(wide(logits)).masked_fill(outside(logits, direction), -torch.inf).softmax(0)


def outside(logits: Tensor, direction: Direction) -> Tensor:
    """Whether a logit is of a neighbour outside the plane, bool; broadcasts to the logits."""
    along = -1 if direction in ("down", "up") else -2
    line = torch.arange(logits.shape[along], device=logits.device)
    if along == -2:
        line = line[:, None]
    never = torch.zeros_like(line, dtype=torch.bool)
    found = torch.stack([line == 0, never, line == logits.shape[along] - 1])
    while found.dim() < logits.dim():
        found = found.unsqueeze(1)
    return found


def weights_of(logits: Tensor, direction: str) -> Tensor:
    """``normalize_weights`` of one scan, or of four where direction is "all"; unchecked."""
    made = [shares(own, towards) for towards, (own,) in each(direction, logits)]
    return (torch.stack(made) if direction == ALL else made[0]).to(logits.dtype)


def logits_gradient(logits: Tensor, w: Tensor, grad_w: Tensor, direction: str) -> Tensor:
    """What the gradient of the weights is for their logits.

    With s the sigmoid of a logit a, ds = s (1 - s) da; w is s over the sum of the three, so that
    grad a_k = w_k (1 - s_k) (grad_w_k - sum of w_j grad_w_j).

    Args:
        logits: of one scan, or of four where direction is "all".
        w: ``weights_of`` them.
        grad_w: gradient of w, like it.
        direction: of the scan, or "all".

    Returns:
        The gradient, like logits.
    """
    three = 1 if direction == ALL else 0
    own, grad = wide(w), wide(grad_w)
    beyond_mean = grad - (own * grad).sum(three, keepdim=True)
    return (own * (-wide(logits)).sigmoid() * beyond_mean).to(logits.dtype)
