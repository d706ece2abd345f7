"""Four scans times u as one torch operator: gspn2bench::scaled_scans, and its backward.

A module multiplies h by u, so the four scans, the normalization of logits and this product are one
operator, which a rung may compute in one launch. It returns u h, and h if backward will need it.

The operators are defined without torch's wrappers for Python functions: these cost more host time
than the launch.
"""

from typing import Any

import torch
from torch import Tensor

from gspn2bench.ops import gpu
from gspn2bench.ops.check import ALL, check, check_bias, check_like, split_bias
from gspn2bench.ops.plans import Options
from gspn2bench.ops.weights import logits_gradient, weights_of

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]

_ARGUMENTS = "Tensor x, Tensor lam, Tensor w, Tensor u"
_OPTIONS = "SymInt? chunk, str rung, bool logits"
_LIBRARY = torch.library.Library("gspn2bench", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    f"scaled_scans({_ARGUMENTS}, {_OPTIONS}, bool with_h, Tensor? bias=None) -> (Tensor, Tensor)"
)
_LIBRARY.define(  # type: ignore[no-untyped-call]
    f"scaled_scans_backward(Tensor grad, {_ARGUMENTS}, Tensor h, {_OPTIONS}) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)


def scaled_scans(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
    with_h: bool,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """U h of four scans, and h.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, (4, N, C, H, W).
        w: weights, (4, 3, N, C, H, W) or (4, 3, N, H, W).
        u: output scale, like lam.
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes on a GPU, by id.
        logits: whether w holds logits.
        with_h: whether h is wanted; if not, the second result has no elements.
        bias: added to x, lam, u and w first: one value for each of their channels, in this order,
            C + 4 C + 4 C + 12, or 12 C at the end if each channel has its own weights. Such a call
            is not differentiable.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _scan(x, lam, w, u, chunk, rung, logits, with_h, bias)  # type: ignore[no-any-return]
    with torch._C._AutoDispatchBelowAutograd():  # autograd would only redispatch, in Python
        return _scan(x, lam, w, u, chunk, rung, logits, with_h, bias)  # type: ignore[no-any-return]


def _check(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    chunk: int | None,
    rung: str,
    bias: Tensor | None = None,
) -> None:
    check(x, lam, w, ALL, chunk, rung)
    check_like("u", u, lam)
    if bias is not None:
        check_bias(bias, x, w)


def _composed(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
    with_h: bool,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward by the operator of the scan, for CPUs and for rungs without a launch for all four."""
    _check(x, lam, w, u, chunk, rung, bias)
    if bias is not None:
        of_x, of_lam, of_u, of_w = split_bias(bias, x, w)
        x, lam, u, w = x + of_x, lam + of_lam, u + of_u, w + of_w
    h = torch.ops.gspn2bench.line_scan(x, lam, w, ALL, chunk, rung, logits)
    return _match(u * h, lam), _match(h, lam) if with_h else h.new_empty(0)


def _cuda(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
    with_h: bool,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if lam.numel() == 0:
        return _composed(x, lam, w, u, chunk, rung, logits, with_h, bias)
    rung = gpu.resolve(rung, "forward", ALL, x, w, chunk)
    if not gpu.scans_four(rung):
        return _composed(x, lam, w, u, chunk, rung, logits, with_h, bias)
    y, h = gpu.scaled_forward(x, lam, w, u, Options(chunk, rung, logits, with_h), bias)
    assert y is not None
    return _match(y, lam), y.new_empty(0) if h is None else _match(h, lam)


def _fake(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,  # noqa: ARG001
    with_h: bool,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _check(x, lam, w, u, chunk, rung, bias)
    return torch.empty_like(lam), torch.empty_like(lam) if with_h else lam.new_empty(0)


def _composed_backward(
    grad: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    h: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
    grad_h: Tensor | None = None,
) -> Gradients:
    """Backward by operators that are differentiable themselves.

    Args:
        grad: gradient of u h, like lam.
        x: as for forward, like the following.
        lam: as for forward.
        w: as for forward.
        u: as for forward.
        h: from forward.
        chunk: as for forward.
        rung: as for forward.
        logits: as for forward.
        grad_h: gradient of h itself, if it was used.
    """
    total = u * grad if grad_h is None else u * grad + grad_h
    weights = weights_of(w, ALL) if logits else w
    grad_x, grad_lam, grad_w = torch.ops.gspn2bench.line_scan_backward(
        total, x, lam, weights, h, ALL, chunk, rung
    )
    if logits:
        grad_w = logits_gradient(w, weights, grad_w, ALL)
    return grad_x, grad_lam, grad_w, h * grad


def _cuda_backward(
    grad: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    h: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
) -> Gradients:
    if lam.numel() == 0:
        return _cpu_backward(grad, x, lam, w, u, h, chunk, rung, logits)
    rung = gpu.resolve(rung, "backward", ALL, x, w, chunk)
    if not gpu.scans_four(rung):
        return _cpu_backward(grad, x, lam, w, u, h, chunk, rung, logits)
    gradients = gpu.scaled_backward(grad, x, lam, w, u, h, Options(chunk, rung, logits))
    grad_x, grad_lam, grad_w, grad_u = gradients
    assert grad_u is not None
    return _alike((grad_x.sum(0), grad_lam, grad_w, grad_u), x, lam, w)


def _cpu_backward(
    grad: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    h: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,
) -> Gradients:
    return _alike(_composed_backward(grad, x, lam, w, u, h, chunk, rung, logits), x, lam, w)


def _fake_backward(
    grad: Tensor,  # noqa: ARG001
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    h: Tensor,
    chunk: int | None,
    rung: str,
    logits: bool,  # noqa: ARG001
) -> Gradients:
    _check(x, lam, w, u, chunk, rung)
    check_like("h", h, lam)
    return torch.empty_like(x), torch.empty_like(lam), torch.empty_like(w), torch.empty_like(lam)


def _alike(gradients: Gradients, x: Tensor, lam: Tensor, w: Tensor) -> Gradients:
    """The gradients in the memory layouts of their tensors."""
    grad_x, grad_lam, grad_w, grad_u = gradients
    return _match(grad_x, x), _match(grad_lam, lam), _match(grad_w, w), _match(grad_u, lam)


def _match(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the type of another, and in the layout of its ``torch.empty_like``."""
    if tensor.dtype == like.dtype and tensor.stride() == like.stride():
        return tensor
    return torch.empty_like(like).copy_(tensor)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, lam, w, u, ctx.chunk, ctx.rung, ctx.logits, _, bias = inputs
    if bias is not None:
        raise ValueError("bias: given, expected None for a call that is differentiated")
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, lam, w, u, output[1])


def _backward(ctx: Any, grad: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
    x, lam, w, u, h = ctx.saved_tensors
    if h.shape != lam.shape:
        raise ValueError("with_h: False, expected True for a call that is differentiated")
    options = ctx.chunk, ctx.rung, ctx.logits
    if grad is None and grad_h is None:
        return (None,) * 9
    if grad is None:
        grad = torch.zeros_like(lam)
    if torch.is_grad_enabled() or grad_h is not None:
        gradients = _composed_backward(grad, x, lam, w, u, h, *options, grad_h=grad_h)
    else:
        gradients = torch.ops.gspn2bench.scaled_scans_backward(grad, x, lam, w, u, h, *options)
    return *gradients, None, None, None, None, None


_LIBRARY.impl("scaled_scans", _composed, "CPU")  # type: ignore[no-untyped-call]
_LIBRARY.impl("scaled_scans", _cuda, "CUDA")  # type: ignore[no-untyped-call]
_LIBRARY.impl("scaled_scans_backward", _cpu_backward, "CPU")  # type: ignore[no-untyped-call]
_LIBRARY.impl("scaled_scans_backward", _cuda_backward, "CUDA")  # type: ignore[no-untyped-call]
torch.library.register_fake("gspn2bench::scaled_scans", _fake, lib=_LIBRARY)
torch.library.register_fake("gspn2bench::scaled_scans_backward", _fake_backward, lib=_LIBRARY)
torch.library.register_autograd(
    "gspn2bench::scaled_scans", _backward, setup_context=_save_for_backward, lib=_LIBRARY
)
_scan = torch.ops.gspn2bench.scaled_scans.default
