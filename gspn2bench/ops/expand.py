"""Planes to tokens as a torch operator, gspn2bench::expand: a linear layer that reads planes.

On a GPU a kernel computes it where it is faster than a product by torch. The formula of autograd
consists of torch's own operators, so gradients exist to any order.
"""

from typing import Any, Final

import torch
from torch import Tensor

from gspn2bench.ops.check import check_expand
from gspn2bench.ops.forward_mode import refuse_forward_mode
from gspn2bench.ops.device import device_of
from gspn2bench.ops.lines import wide
from gspn2bench.ops.scan import autocast

FEW_PLANES: Final = 12
"""Most planes for which the kernel is used on a GPU; above, the tensor cores are faster."""
ALIGNMENT: Final = 8
"""Bytes of the widest words that the kernel loads and stores."""

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def expand(planes: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Tokens of planes: the linear layer ``planes.t() @ weight.t() + bias``.

    Types, devices and autocast are as for ``line_scan``. Sums are float32 (float64 for float64).
    Tensors that are not contiguous are copied. The kernel reads the transpose of the weight:
    ``weight.t()`` is not copied if it is contiguous.

    Args:
        planes: (K, P): K values for each of P positions.
        weight: (C, K).
        bias: (C,), or None.

    Returns:
        Tokens, (P, C), contiguous; differentiable any number of times in every argument.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
        NotImplementedError: forward-mode differentiation.
    """
    check_expand(planes, weight, bias)
    tensors = (planes, weight) if bias is None else (planes, weight, bias)
    refuse_forward_mode(*tensors, name="expand")
    planes, weight, *rest = autocast(*tensors)
    tokens: Tensor = expand_op(planes, weight, rest[0] if rest else None)
    return tokens


@torch.library.custom_op("gspn2bench::expand", mutates_args=(), device_types="cpu")
def expand_op(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``expand`` without autocast."""
    check_expand(planes, weight, bias)
    start = None if bias is None else wide(bias)
    return _product(wide(planes), wide(weight), start).to(planes.dtype)


@expand_op.register_kernel("cuda")
def _(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_expand(planes, weight, bias)
    return on_gpu(planes, weight, bias)


@expand_op.register_fake
def _(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_expand(planes, weight, bias)
    return planes.new_empty(planes.shape[1], weight.shape[0])


def on_gpu(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Tokens by the kernel, or by torch where the kernel is slower or can't run the sizes."""
    (inner, positions), channels = planes.shape, weight.shape[0]
    if inner > FEW_PLANES or 0 in (inner, positions, channels):
        return _product(planes, weight, bias)
    with device_of(planes):
        from gspn2bench.kernels.expand import bind_expand, unsupported_reason

        dtype = str(planes.dtype).removeprefix("torch.")
        if unsupported_reason(inner, positions, channels, dtype) is not None:
            return _product(planes, weight, bias)
        tokens = planes.new_empty(positions, channels)
        start = None if bias is None else _aligned(bias)
        bind_expand(planes.contiguous(), _aligned(weight.t()), start, tokens)()
    return tokens


def _product(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(planes.t(), weight.t())
    return torch.addmm(bias, planes.t(), weight.t())


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor, contiguous, at an address that the kernel's words can have."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


# Gradients.


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    planes, weight, _ = inputs
    ctx.save_for_backward(planes, weight)


def _backward(ctx: Any, grad: Tensor) -> Gradients:
    planes, weight = ctx.saved_tensors
    refuse_forward_mode(grad, planes, weight, name="expand")
    for_planes, for_weight, for_bias = ctx.needs_input_grad
    return (
        torch.mm(weight.t(), grad.t()) if for_planes else None,
        torch.mm(grad.t(), planes.t()) if for_weight else None,
        grad.sum(0) if for_bias else None,
    )


expand_op.register_autograd(_backward, setup_context=_save_for_backward)
