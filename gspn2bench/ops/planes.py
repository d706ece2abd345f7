"""Four scans of planes, times u, and their backward, with little host time, for training.

A product writes the inputs of the scans as planes, channel by channel, and another reads their
gradients as planes. Neither needs views of four or five dimensions, or a tensor per input. So
forward takes two tensors, and backward writes all gradients to one.

Without a dispatch mode the implementation is called directly, not through torch's dispatcher. With
one (FlopCounterMode) it is an operator, gspn2bench::scan_planes or scan_planes_backward, which the
mode sees. Neither is differentiable: the caller has autograd's formula.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gspn2bench.ops import gpu
from gspn2bench.ops.check import ALL
from gspn2bench.ops.plans import Options, Plan, plan_of
from gspn2bench.ops.prepared import keep
from gspn2bench.problem import Phase

LOGITS = 12
"""Planes of logits: three neighbours of four directions, shared by the channels."""

_LIBRARY = torch.library.Library("gspn2bench", "FRAGMENT")  # type: ignore[no-untyped-call]
_SETTINGS = "int batch, int height, int width, int? chunk, str rung"
_LIBRARY.define(  # type: ignore[no-untyped-call]
    f"scan_planes(Tensor x, Tensor planes, {_SETTINGS}) -> (Tensor, Tensor)"
)
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "scan_planes_backward(Tensor grad, Tensor x, Tensor planes, Tensor h, Tensor(a!) gradients, "
    f"{_SETTINGS}) -> ()"
)


class Settings(NamedTuple):
    """The arguments that are not tensors.

    Args:
        batch: N.
        height: H.
        width: W.
        chunk: lines after which h restarts at 0, at most the longer of H and W; None: never.
        rung: the rung that computes on a GPU, by id, or "auto".
    """

    batch: int
    height: int
    width: int
    chunk: int | None
    rung: str


def scan_planes(x: Tensor, planes: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Four scans times u, and h. The channels share their weights.

    Args:
        x: input, (C, N * H * W), contiguous.
        planes: lam, u and the logits, (4 C + 4 C + 12, N * H * W), contiguous.
        settings: the other arguments.

    Returns:
        u h and h, each like lam, (4 C, N * H * W).

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    if torch._C._len_torch_dispatch_stack():
        return torch.ops.gspn2bench.scan_planes(x, planes, *settings)  # type: ignore[no-any-return]
    return _forward(x, planes, settings)


def scan_planes_backward(
    grad: Tensor, x: Tensor, planes: Tensor, h: Tensor, gradients: Tensor, settings: Settings
) -> None:
    """Backward of ``scan_planes``.

    Args:
        grad: gradient of u h, like h.
        x: as for forward, like the following.
        planes: as for forward.
        h: from forward.
        gradients: output, (4 C + 4 C + 4 C + 12, N * H * W), contiguous: gradients of x, whose sum
            over the four directions is the gradient of x, and those of lam, u and the logits.
        settings: as for forward.
    """
    if torch._C._len_torch_dispatch_stack():
        torch.ops.gspn2bench.scan_planes_backward(grad, x, planes, h, gradients, *settings)
    else:
        _backward(grad, x, planes, h, gradients, settings)


def _forward(x: Tensor, planes: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    plan = plan_of_planes("forward", x, planes, settings) if x.is_cuda else None
    if plan is not None:
        return launch_forward(plan, x, planes)
    image, lam, u, w = as_images(x, planes, settings)
    y, h = torch.ops.gspn2bench.scaled_scans(
        image, lam, w, u, settings.chunk, settings.rung, True, True
    )
    return _as_planes(y, planes), _as_planes(h, planes)


def _backward(
    grad: Tensor, x: Tensor, planes: Tensor, h: Tensor, gradients: Tensor, settings: Settings
) -> None:
    plan = plan_of_planes("backward", x, planes, settings) if x.is_cuda else None
    if plan is not None:
        launch_backward(plan, grad, x, planes, h, gradients)
    else:
        _composed_backward(grad, x, planes, h, gradients, settings)


def launch_forward(plan: Plan, x: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """``scan_planes`` by a prepared call."""
    from gspn2bench.kernels.four import FourOperands

    four = 4 * x.shape[0]
    lam, u, w = planes.split_with_sizes((four, four, LOGITS))
    y, h = torch.empty_like(lam), torch.empty_like(lam)
    plan(FourOperands(x, lam, w, h, u, y))
    return y, h


def launch_backward(
    plan: Plan, grad: Tensor, x: Tensor, planes: Tensor, h: Tensor, gradients: Tensor
) -> None:
    """``scan_planes_backward`` by a prepared call."""
    from gspn2bench.kernels.four import FourOperands

    four = 4 * x.shape[0]
    lam, u, w = planes.split_with_sizes((four, four, LOGITS))
    of_x, of_lam, of_u, of_w = gradients.split_with_sizes((four, four, four, LOGITS))
    scratch = x.new_empty(plan.scratch, dtype=torch.float32) if plan.scratch else None
    plan(FourOperands(x, lam, w, h, u, None, grad, of_x, of_lam, of_w, of_u, None, scratch))


def _composed_backward(
    grad: Tensor, x: Tensor, planes: Tensor, h: Tensor, gradients: Tensor, settings: Settings
) -> None:
    """Backward by the operator, which returns a tensor per gradient: for CPUs and other rungs."""
    image, lam, u, w = as_images(x, planes, settings)
    channels = x.shape[0]
    of_x, others = gradients[:channels], gradients[4 * channels :]
    like_grad, like_h = (_four(tensor, channels, settings) for tensor in (grad, h))
    grad_x, grad_lam, grad_w, grad_u = torch.ops.gspn2bench.scaled_scans_backward(
        like_grad, image, lam, w, u, like_h, settings.chunk, settings.rung, True
    )
    of_x.copy_(grad_x.transpose(0, 1).reshape(of_x.shape))
    gradients[channels : 4 * channels].zero_()  # the operator has added the directions
    positions = planes.shape[1]
    of_maps = [_as_planes(grad_lam, planes), _as_planes(grad_u, planes)]
    torch.cat([*of_maps, grad_w.reshape(LOGITS, positions)], out=others)


def as_images(
    x: Tensor, planes: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, lam, u and the logits as ``scaled_scans`` takes them: views."""
    channels = x.shape[0]
    batch, height, width = settings[:3]
    lam, u, w = planes.split_with_sizes((4 * channels, 4 * channels, LOGITS))
    return (
        x.view(channels, batch, height, width).transpose(0, 1),
        _four(lam, channels, settings),
        _four(u, channels, settings),
        w.view(4, 3, batch, height, width),
    )


def _four(planes: Tensor, channels: int, settings: Settings) -> Tensor:
    """Planes, (4 C, N * H * W), as (4, N, C, H, W)."""
    return planes.view(4, channels, *settings[:3]).transpose(1, 2)


def _as_planes(tensor: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``_four``."""
    return tensor.transpose(1, 2).reshape(4 * tensor.shape[2], like.shape[1])


_plans: dict[tuple[Any, ...], Plan | None] = {}


def plan_of_planes(phase: Phase, x: Tensor, planes: Tensor, settings: Settings) -> Plan | None:
    """The prepared call, made if there is none yet.

    Returns:
        None if the rung does not scan four directions in one call, or there is nothing to scan.

    Raises:
        ValueError: an argument is invalid, or the rung cannot run it; the message says why.
    """
    key = (phase, x.shape[0], x.dtype, x.device, settings)
    try:
        return _plans[key]
    except KeyError:
        return keep(_plans, key, _make(phase, x, planes, settings))


def _make(phase: Phase, x: Tensor, planes: Tensor, settings: Settings) -> Plan | None:
    """A plan by ``plan_of``. It needs only addresses, and all memory here is as it expects."""
    image, lam, u, w = as_images(x, planes, settings)
    if planes.numel() == 0:
        return None
    rung = gpu.resolve(settings.rung, phase, ALL, image, w, settings.chunk)
    if not gpu.scans_four(rung):
        return None
    options = Options(settings.chunk, rung, logits=True)
    return plan_of(phase, image, lam, w, u, options)


def _operator(x: Tensor, planes: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    return _forward(x, planes, Settings(*settings))


def _operator_backward(
    grad: Tensor, x: Tensor, planes: Tensor, h: Tensor, gradients: Tensor, *settings: Any
) -> None:
    _backward(grad, x, planes, h, gradients, Settings(*settings))


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("scan_planes", _operator, _key)  # type: ignore[no-untyped-call]
    _LIBRARY.impl("scan_planes_backward", _operator_backward, _key)  # type: ignore[no-untyped-call]
