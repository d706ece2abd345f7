"""The scan on a GPU: the kernels of a rung, launched on torch's tensors and current stream.

Modules that import numba are imported when the first scan runs on a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gspn2bench.kernels.contract import Operands
from gspn2bench.ops.check import ALL, AUTO, each, shares_weights
from gspn2bench.ops.choice import choose_for
from gspn2bench.ops.device import device_of
from gspn2bench.ops.plans import Options, plan_of
from gspn2bench.ops.problems import scan_problem
from gspn2bench.ops.weights import weights_of
from gspn2bench.problem import Direction, Phase

Scan = tuple[Direction, Operands]


def resolve(
    rung: str, phase: Phase, direction: str, x: Tensor, w: Tensor, chunk: int | None
) -> str:
    """The rung that ``AUTO`` stands for (see choice.py), or the rung itself.

    Args:
        rung: the rung, or ``AUTO``.
        phase: forward or backward.
        direction: of the scan, or "all".
        x: input, (N, C, H, W), with elements.
        w: weights, of which only the shape is used.
        chunk: lines after which h restarts at 0; None: never.
    """
    if rung != AUTO:
        return rung
    vertical = direction in ("down", "up")
    shared = shares_weights(w, direction)
    return choose_for(
        phase, direction == ALL, vertical, tuple(x.shape), x.dtype, x.device, shared, chunk
    )


def forward(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool = False,
) -> Tensor:
    """H of one scan, or of four that run concurrently; arguments as ``library.scan``.

    Logits are normalized by the kernels of a rung that supports it, otherwise by torch. Nothing is
    launched for a tensor without elements.

    Raises:
        ValueError: the rung does not support the arguments.
    """
    if lam.numel() == 0:
        return lam.new_empty(lam.shape)
    rung = resolve(rung, "forward", direction, x, w, chunk)
    if direction == ALL and scans_four(rung):
        _, four_h = scaled_forward(x, lam, w, None, Options(chunk, rung, logits))
        assert four_h is not None
        return four_h
    if logits and not _takes_logits(rung):
        w, logits = weights_of(w, direction), False
    x, lam, w = (tensor.contiguous() for tensor in (x, lam, w))
    h = torch.empty_like(lam)
    scans = [(towards, Operands(x, *own)) for towards, own in each(direction, lam, w, h)]
    _run("forward", scans, shares_weights(w, direction), chunk, rung, logits)
    return h


def backward(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (one per scan, shaped like lam), of lam and of w.

    Raises:
        ValueError: the rung does not support the arguments.
    """
    if lam.numel() == 0:
        return lam.new_zeros(lam.shape), lam.new_zeros(lam.shape), w.new_zeros(w.shape)
    rung = resolve(rung, "backward", direction, x, w, chunk)
    if direction == ALL and scans_four(rung):
        options = Options(chunk, rung, logits=False)
        grad_x, grad_lam, grad_w, _ = scaled_backward(grad_h, x, lam, w, None, h, options)
        return grad_x, grad_lam, grad_w
    grad_h, x, lam, w, h = (tensor.contiguous() for tensor in (grad_h, x, lam, w, h))
    grad_x, grad_lam, grad_w = (torch.empty_like(tensor) for tensor in (lam, lam, w))
    tensors = (lam, w, h, grad_h, grad_x, grad_lam, grad_w)
    scans = [(towards, Operands(x, *own)) for towards, own in each(direction, *tensors)]
    _run("backward", scans, shares_weights(w, direction), chunk, rung)
    return grad_x, grad_lam, grad_w


def scaled_forward(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    options: Options,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Four scans in one call, by a rung for which ``scans_four``.

    Returns:
        u h, or None without u; and h, or None if ``options.with_h`` is false.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    from gspn2bench.kernels.four import FourOperands

    plan = plan_of("forward", x, lam, w, u, options, bias)
    u = None if u is None else plan.lay_out(u)
    y = None if u is None else plan.output(lam)
    h = plan.output(lam) if options.with_h else None
    x, lam, w = plan.lay_out(x), plan.lay_out(lam), plan.lay_out_weights(w)
    plan(FourOperands(x, lam, w, h=h, u=u, y=y, bias=bias))
    return y, h


def scaled_backward(
    grad: Tensor, x: Tensor, lam: Tensor, w: Tensor, u: Tensor | None, h: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Backward of ``scaled_forward``.

    Args:
        grad: gradient of u h, or of h without u; like lam.
        x: as for forward, like the following.
        lam: as for forward.
        w: as for forward.
        u: as for forward.
        h: from forward.
        options: as for forward.

    Returns:
        Gradients of x (one per direction, like lam), of lam, w and u.
    """
    from gspn2bench.kernels.four import FourOperands

    plan = plan_of("backward", x, lam, w, u, options)
    grad, x, lam, h = (plan.lay_out(tensor) for tensor in (grad, x, lam, h))
    w = plan.lay_out_weights(w)
    u = None if u is None else plan.lay_out(u)
    grad_x, grad_lam, grad_w = torch.empty_like(lam), torch.empty_like(lam), torch.empty_like(w)
    grad_u = None if u is None else torch.empty_like(lam)
    scratch = lam.new_empty(plan.scratch, dtype=torch.float32) if plan.scratch else None
    gradients = {"grad_x": grad_x, "grad_lam": grad_lam, "grad_w": grad_w, "grad_u": grad_u}
    plan(FourOperands(x, lam, w, h=h, u=u, grad=grad, scratch=scratch, **gradients))
    return grad_x, grad_lam, grad_w, grad_u


def scans_four(rung: str) -> bool:
    """Whether a rung scans four directions in one call."""
    from gspn2bench.kernels.ladder import LADDER

    return LADDER[rung].four is not None


def _takes_logits(rung: str) -> bool:
    from gspn2bench.kernels.ladder import LADDER

    return LADDER[rung].takes_logits


def _run(
    phase: Phase,
    scans: Sequence[Scan],
    shared: bool,
    chunk: int | None,
    rung_id: str,
    logits: bool = False,
) -> None:
    with device_of(scans[0][1].x):
        from gspn2bench.kernels.ladder import LADDER
        from gspn2bench.kernels.operand_arrays import unpoisoned
        from gspn2bench.kernels.streams import side_by_side

        rung = LADDER[rung_id]
        sizes = scans[0][1].x.shape, scans[0][1].x.dtype
        with unpoisoned():
            calls = [
                rung.bind(scan_problem(phase, direction, *sizes, shared, chunk, logits), operands)
                for direction, operands in scans
            ]
        call = calls[0] if len(calls) == 1 else side_by_side(calls)
        call()
