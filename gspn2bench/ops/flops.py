"""Floating-point operations of the operators, registered with torch's FlopCounterMode."""

from typing import Any, Final

import torch
from torch.utils.flop_counter import register_flop_formula

import gspn2bench.ops.checkpoints
import gspn2bench.ops.expand
import gspn2bench.ops.library
import gspn2bench.ops.planes
import gspn2bench.ops.scaled  # noqa: F401  all define operators of torch.ops.gspn2bench

SCAN_MACS: Final = 4
"""Multiply-accumulates per element of h: three neighbours times their weights, and lam times x."""
BACKWARD_MACS: Final = 8
"""Per element of h: three for its gradient, one each for grad_x and grad_lam, three for grad_w."""


@register_flop_formula(torch.ops.gspn2bench.line_scan)
def scan_flops(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Operations of a scan; the normalization of logits is not counted."""
    return 2 * SCAN_MACS * out_shape.numel()


@register_flop_formula(torch.ops.gspn2bench.line_scan_backward)
def scan_backward_flops(grad_h_shape: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of a scan's backward."""
    return 2 * BACKWARD_MACS * grad_h_shape.numel()


@register_flop_formula(torch.ops.gspn2bench.checkpointed_scan)
def checkpointed_scan_flops(*_: Any, out_shape: tuple[torch.Size, torch.Size], **__: Any) -> int:
    """Operations of the scans; the product with u and the normalization are not counted."""
    return 2 * SCAN_MACS * out_shape[0].numel()


@register_flop_formula(torch.ops.gspn2bench.checkpointed_scan_backward)
def checkpointed_scan_backward_flops(grad_shape: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of the backward of the scans, and of the scans that recompute h."""
    return 2 * (SCAN_MACS + BACKWARD_MACS) * grad_shape.numel()


@register_flop_formula(torch.ops.gspn2bench.expand)
def expand_flops(planes_shape: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Operations of the product, as those of a linear layer; the bias is not counted."""
    return 2 * planes_shape[0] * out_shape.numel()


@register_flop_formula(torch.ops.gspn2bench.scaled_scans)
def scaled_scans_flops(*_: Any, out_shape: tuple[torch.Size, torch.Size], **__: Any) -> int:
    """Operations of four scans; the product with u and a bias are not counted."""
    return 2 * SCAN_MACS * out_shape[0].numel()


@register_flop_formula(torch.ops.gspn2bench.scaled_scans_backward)
def scaled_scans_backward_flops(grad_shape: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of the backward of four scans."""
    return 2 * BACKWARD_MACS * grad_shape.numel()


@register_flop_formula(torch.ops.gspn2bench.scan_planes)
def scan_planes_flops(*_: Any, out_shape: tuple[torch.Size, torch.Size], **__: Any) -> int:
    """Operations of four scans; the product with u is not counted."""
    return 2 * SCAN_MACS * out_shape[0].numel()


@register_flop_formula(torch.ops.gspn2bench.scan_planes_backward)
def scan_planes_backward_flops(grad_shape: torch.Size, *_: Any, **__: Any) -> int:
    """Operations of the backward of four scans."""
    return 2 * BACKWARD_MACS * grad_shape.numel()
