"""Multiply-accumulates of a module: torch counts its matrix products, a formula its scans."""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gspn2bench.ops  # noqa: F401  defines torch.ops.gspn2bench

SCAN_MACS: Final = 4
"""Of one element of h: three neighbours, each times its weight, and lam times x."""


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of one forward call.

    Counted are convolutions, matrix products and scans; norms, activations, the normalisation of
    weights and the product with u are left out, as is usual. A module and inputs on torch's meta
    device are counted without computing anything.

    Args:
        module: to call.
        inputs: its arguments.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.gspn2bench.line_scan: _scan_flops}
    )
    with torch.no_grad(), counter:
        module(*inputs)
    return counter.get_total_flops() // 2


def _scan_flops(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * SCAN_MACS * out_shape.numel()
