"""Multiply-accumulates of a module, counted by torch's FlopCounterMode."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gspn2bench.ops  # noqa: F401  registers the formulas of scans


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of one forward call.

    Counts convolutions, matrix products and scans. Norms, activations, the normalization of
    weights and the product with u are left out, as is usual. With the module and its inputs on the
    meta device nothing is computed.

    Args:
        module: the module to call.
        inputs: its arguments.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*inputs)
    return counter.get_total_flops() // 2
