"""Planes to tokens as a torch operator, gspn2bench::expand: a linear layer that reads planes.

On a GPU a kernel computes it where it is faster than a product by torch. Its launch is prepared
once per kind of the tensors. The formula of autograd consists of torch's own operators, so
gradients exist to any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from gspn2bench.ops.check import check_expand, check_expand_kinds
from gspn2bench.ops.device import device_of
from gspn2bench.ops.forward_mode import refuse_forward_mode
from gspn2bench.ops.lines import wide
from gspn2bench.ops.prepared import aligned, keep, kind_of, launch_on
from gspn2bench.ops.scan import autocast

FEW_PLANES: Final = 12
"""Most planes for which the kernel is used on a GPU; above, the tensor cores are faster."""

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

_LIBRARY = torch.library.Library("gspn2bench", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("expand(Tensor planes, Tensor weight, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]
expand_op: Final = torch.ops.gspn2bench.expand.default


def expand(planes: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Tokens of planes: the linear layer ``planes.t() @ weight.t() + bias``.

    Types, devices and autocast are as for ``line_scan``. Sums are float32 (float64 for float64).
    Tensors that are not contiguous are copied. The kernel reads the transpose of the weight:
    the weight is not copied if ``weight.t()`` is contiguous.

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
    check_expand_kinds(planes, weight, bias)
    tensors = (planes, weight) if bias is None else (planes, weight, bias)
    refuse_forward_mode(*tensors, name="expand")
    planes, weight, *rest = autocast(*tensors)
    bias = rest[0] if rest else None
    if _needs_formula(tensors):
        return expand_op(planes, weight, bias)  # type: ignore[no-any-return]
    with torch._C._AutoDispatchBelowAutograd():  # saves a third of the host time
        return expand_op(planes, weight, bias)  # type: ignore[no-any-return]


def _needs_formula(tensors: tuple[Tensor, ...]) -> bool:
    """Whether a call is differentiated, compiled, or inside a function transform."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
    )


def _cpu(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_expand(planes, weight, bias)
    start = None if bias is None else wide(bias)
    return _product(wide(planes), wide(weight), start).to(planes.dtype)


def _fake(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_expand(planes, weight, bias)
    return planes.new_empty(planes.shape[1], weight.shape[0])


@dataclass(frozen=True)
class Plan:
    """A prepared product.

    Args:
        launch: launches the kernel; None if torch computes the product.
        transposed: whether the weight is stored as the kernel reads it.
        device: of the tensors.
    """

    launch: Callable[..., None] | None
    transposed: bool
    device: torch.device


_plans: dict[tuple[Any, ...], Plan] = {}


def on_gpu(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Tokens by the kernel, or by torch where the kernel is slower or can't run the sizes."""
    key = kind_of(planes), kind_of(weight), None if bias is None else kind_of(bias)
    plan = _plans.get(key) or keep(_plans, key, _make(planes, weight, bias))
    if plan.launch is None:
        return _product(planes, weight, bias)
    tokens = planes.new_empty(planes.shape[1], weight.shape[0])
    weight = aligned(weight if plan.transposed else weight.t().contiguous())
    start = weight if bias is None else aligned(bias.contiguous())
    launch_on(plan.device, plan.launch, planes.contiguous(), weight, start, tokens)
    return tokens


def _make(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Plan:
    check_expand(planes, weight, bias)
    (inner, positions), channels = planes.shape, weight.shape[0]
    launch = None
    if inner <= FEW_PLANES:
        with device_of(planes):
            from gspn2bench.kernels.expand import prepare_expand, unsupported_reason

            dtype = str(planes.dtype).removeprefix("torch.")
            if unsupported_reason(inner, positions, channels, dtype) is None:
                launch = prepare_expand(inner, positions, channels, dtype, bias is not None)
    return Plan(launch, weight.t().is_contiguous(), planes.device)


def _product(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(planes.t(), weight.t())
    return torch.addmm(bias, planes.t(), weight.t())


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


_LIBRARY.impl("expand", _cpu, "CPU")  # type: ignore[no-untyped-call]
_LIBRARY.impl("expand", on_gpu, "CUDA")  # type: ignore[no-untyped-call]
torch.library.register_fake("gspn2bench::expand", _fake, lib=_LIBRARY)
torch.library.register_autograd(
    "gspn2bench::expand", _backward, setup_context=_save_for_backward, lib=_LIBRARY
)
