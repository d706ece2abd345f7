"""Four scans in one call on a GPU, prepared once per kind of its tensors.

A plan holds everything but addresses: checked arguments, compiled kernels, sizes of launches. A
call then costs a look-up, its outputs and its launches.

Modules that import numba are imported when the first plan is made.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gspn2bench.ops.check import ALL, check, check_bias, check_like, shares_weights
from gspn2bench.ops.device import device_of
from gspn2bench.ops.prepared import aligned, keep, kind_of, launch_on
from gspn2bench.ops.problems import scan_problem
from gspn2bench.problem import DIRECTIONS, Direction, Phase

if TYPE_CHECKING:
    from gspn2bench.kernels.four import FourCall, FourOperands, FourProblem


class Options(NamedTuple):
    """The arguments of a call that are not tensors.

    Args:
        chunk: lines after which h restarts at 0; None: never.
        rung: the rung that computes, by id.
        logits: whether w holds logits.
        with_h: whether forward writes h if there is a u.
    """

    chunk: int | None
    rung: str
    logits: bool
    with_h: bool = True


@dataclass(frozen=True)
class Plan:
    """A prepared call.

    Args:
        launch: launches the kernels.
        outermost: whether images lie channel by channel: memory is (C, N, H, W).
        shared: whether the channels share one set of weights.
        direct: whether kernels can write to tensors like lam, by ``torch.empty_like``.
        device: of the tensors.
        scratch: float32 values of scratch memory that a call needs.
    """

    launch: "FourCall"
    outermost: bool
    shared: bool
    direct: bool
    device: torch.device
    scratch: int

    def __call__(self, operands: "FourOperands") -> None:
        """Launch on the current stream of the tensors' device."""
        launch_on(self.device, self.launch, operands)

    def lay_out(self, tensor: Tensor) -> Tensor:
        """A tensor of images in the layout of the plan; copied only if necessary."""
        if self.outermost:
            return aligned(_swapped(_swapped(tensor).contiguous()))
        return aligned(tensor.contiguous())

    def output(self, lam: Tensor) -> Tensor:
        """A new tensor like lam, in the layout of the plan."""
        if self.direct:
            return torch.empty_like(lam)
        return lam.new_empty(lam.shape)

    def lay_out_weights(self, w: Tensor) -> Tensor:
        """Weights in the layout of the plan; copied only if necessary."""
        return aligned(w.contiguous()) if self.shared else self.lay_out(w)


_plans: dict[tuple[Any, ...], Plan] = {}


def plan_of(
    phase: Phase,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    options: Options,
    bias: Tensor | None = None,
) -> Plan:
    """The plan of a call, made if there is none yet.

    Args:
        phase: forward or backward.
        x: input, (N, C, H, W).
        lam: input scale, (4, N, C, H, W).
        w: weights or logits, (4, 3, N, C, H, W) or (4, 3, N, H, W).
        u: output scale, like lam, or None.
        options: the other arguments.
        bias: of x, lam, u and w, see ``FourOperands``, or None; in forward only.

    Raises:
        ValueError: an argument is invalid, or the rung cannot run it; the message says why.
    """
    scaled = None if u is None else kind_of(u)
    biased = None if bias is None else kind_of(bias)
    key = (phase, options, kind_of(x), kind_of(lam), kind_of(w), scaled, biased)
    plan = _plans.get(key)
    if plan is None:
        plan = keep(_plans, key, _make(phase, x, lam, w, u, options, bias))
    return plan


def _make(
    phase: Phase,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    options: Options,
    bias: Tensor | None,
) -> Plan:
    check(x, lam, w, ALL, options.chunk, options.rung)
    if u is not None:
        check_like("u", u, lam)
    if bias is not None:
        check_bias(bias, x, w)
    from gspn2bench.kernels.ladder import LADDER

    problem = _problem(phase, x, lam, w, u, options, bias)
    rung = LADDER[options.rung]
    assert rung.four is not None
    for direction in DIRECTIONS:
        scan = replace(problem.scan, direction=direction, chunk=None)
        reason = rung.unsupported_reason(scan)
        if reason is not None:
            raise ValueError(reason)
    with device_of(x):
        launch, scratch = rung.four.prepare(problem), rung.four.scratch(problem)
    outermost, shared = problem.channels_outermost, problem.scan.weights == "shared"
    like = torch.empty_like(lam)
    direct = (_swapped(like) if outermost else like).is_contiguous()
    return Plan(launch, outermost, shared, direct, x.device, scratch)


def _problem(
    phase: Phase,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor | None,
    options: Options,
    bias: Tensor | None,
) -> "FourProblem":
    from gspn2bench.kernels.four import FourProblem

    height, width = x.shape[-2:]
    chunk = options.chunk
    if chunk is not None and chunk >= max(height, width):
        chunk = None  # the words of a load need not divide it
    longest: Direction = "down" if height >= width else "right"
    shared = shares_weights(w, ALL)
    scan = scan_problem(phase, longest, x.shape, x.dtype, shared, chunk, logits=False)
    return FourProblem(
        scan,
        logits=options.logits,
        with_u=u is not None,
        with_h=options.with_h,
        with_bias=bias is not None,
        channels_outermost=not lam.is_contiguous() and _swapped(lam).is_contiguous(),
    )


def _swapped(tensor: Tensor) -> Tensor:
    """A tensor with its axes of images and channels swapped."""
    return tensor.transpose(-4, -3)
