"""Stable weights: the neighbours of an element share 1 between them.

Source: the Stability-Context Condition of arXiv 2501.12381, section 3.2.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gspn2bench.ops.check import check_weight_logits
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
    wide = logits if logits.dtype == torch.float64 else logits.float()
    along = -1 if direction in ("down", "up") else -2
    line = torch.arange(logits.shape[along], device=logits.device)
    if along == -2:
        line = line[:, None]
    never = torch.zeros_like(line, dtype=torch.bool)
    outside = torch.stack([line == 0, never, line == logits.shape[along] - 1])
    while outside.dim() < logits.dim():
        outside = outside.unsqueeze(1)
    return logsigmoid(wide).masked_fill(outside, -torch.inf).softmax(0).to(logits.dtype)
