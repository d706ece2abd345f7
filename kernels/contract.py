"""The contract of a rung: its operands, its declarations, and the call that it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import torch

from gspn2bench.kernels.four import FourKernels
from gspn2bench.label import check_rung_id
from gspn2bench.problem import Direction, ScanProblem


@dataclass(frozen=True)
class Operands:
    """The tensors of one scan, contiguous, on one device.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, (N, C, H, W).
        w: weights of an element's left, middle and right neighbour on the previous line,
            (3, N, C, H, W), or (3, N, H, W) if the channels share them; or their logits, if
            ``problem.logits``.
        h: hidden state, (N, C, H, W): output of forward, input of backward.
        grad_h: incoming gradient, like h. This and the following are for backward only.
        grad_x: output, like x.
        grad_lam: output, like lam.
        grad_w: output, like w.
    """

    x: torch.Tensor
    lam: torch.Tensor
    w: torch.Tensor
    h: torch.Tensor
    grad_h: torch.Tensor | None = None
    grad_x: torch.Tensor | None = None
    grad_lam: torch.Tensor | None = None
    grad_w: torch.Tensor | None = None


INPUTS: Final = {"forward": ("x", "lam", "w"), "backward": ("grad_h", "x", "lam", "w", "h")}
"""Names of the tensors that a phase reads."""
OUTPUTS: Final = {"forward": ("h",), "backward": ("grad_x", "grad_lam", "grad_w")}
"""Names of the tensors that a phase writes."""

Call = Callable[[], None]
"""The bare launches, on torch's current stream. A call of kernels does not allocate or synchronise;
if a library does, that is part of its call."""

Bind = Callable[[ScanProblem, Operands], Call]
"""Set-up, which is not timed: compiles the kernel, lays out its arguments, returns the call."""


def always_supported(problem: ScanProblem) -> str | None:  # noqa: ARG001
    """The ``unsupported_reason`` of a rung without limits of its own: None."""
    return None


def one_launch(problem: ScanProblem) -> int:  # noqa: ARG001
    """The ``launches`` of a rung that walks the scan inside its kernel: 1."""
    return 1


def compulsory_traffic(problem: ScanProblem) -> int:
    """Bytes with each input read once and each output written once."""
    return problem.compulsory_bytes


RENAMED_FIELDS: Final = {
    "supports": "unsupported_reason",
    "not_in_graphs": "graph_unsupported_reason",
}
"""Fields of a rung that 0.1.0 had under another name."""


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Args:
        id: "r01", as in rows and ``--rung``. No spaces, colons, quotes or control characters.
        title: two or three words.
        idea: one line, for ``gspn2bench list``.
        source: paper and section.
        native: the direction that the rung scans if a case does not give one.
        forward: binds the forward kernel.
        launches: kernel launches of one call; None if a library makes them, whose launches are
            recorded but not checked.
        backward: binds the backward kernel; None if the rung has none.
        unsupported_reason: why the rung's kernels can't run a problem; None if they can.
        traffic: bytes that one call must move.
        graph_unsupported_reason: why a CUDA graph can't hold the call; None if it can.
        takes_logits: whether forward normalizes weights that are given as logits.
        four: scans four directions of one x in one call; None if each direction has a call of its
            own.

    Raises:
        ValueError: an id that a profiler's range could not carry.
    """

    id: str
    title: str
    idea: str
    source: str
    native: Direction
    forward: Bind
    launches: Callable[[ScanProblem], int] | None
    backward: Bind | None = None
    unsupported_reason: Callable[[ScanProblem], str | None] = always_supported
    traffic: Callable[[ScanProblem], int] = compulsory_traffic
    graph_unsupported_reason: str | None = None
    takes_logits: bool = False
    four: FourKernels | None = None

    def __new__(cls, *_: Any, **fields: Any) -> Self:
        """Refuse a field by its old name, and name the new one."""
        for name in RENAMED_FIELDS.keys() & fields.keys():
            raise TypeError(f"Rung: {name} was renamed to {RENAMED_FIELDS[name]} in 0.2.0")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_rung_id(self.id)

    def skip_reason(self, problem: ScanProblem) -> str | None:
        """Why a sweep skips the problem; None if the rung can run it.

        Whether the rung has a kernel for the phase and takes logits, then its own limits.
        """
        if problem.phase == "backward" and self.backward is None:
            return f"phase: {self.id} has no backward kernel"
        if problem.logits and not self.takes_logits:
            return f"logits: {self.id} takes weights; normalize them first"
        return self.unsupported_reason(problem)

    def bind(self, problem: ScanProblem, operands: Operands) -> Call:
        """Check the operands and bind the call.

        Raises:
            ValueError: the rung can't run the problem, or an operand has the wrong shape, type,
                device or layout; the message names the operand and what was expected.
        """
        reason = self.skip_reason(problem)
        if reason is not None:
            raise ValueError(reason)
        check_operands(problem, operands)
        if problem.phase == "forward":
            return self.forward(problem, operands)
        assert self.backward is not None
        return self.backward(problem, operands)


def check_operands(problem: ScanProblem, operands: Operands) -> None:
    """Check every tensor against the problem before anything is launched.

    Raises:
        ValueError: names the operand, what it is and what was expected.
    """
    names = ["x", "lam", "w", "h"]
    if problem.phase == "backward":
        names += ["grad_h", "grad_x", "grad_lam", "grad_w"]
    dtype = getattr(torch, problem.dtype)
    device = operands.x.device
    for name in names:
        tensor = getattr(operands, name)
        if tensor is None:
            raise ValueError(f"{name}: missing; backward needs it")
        shape = problem.weight_shape if name in ("w", "grad_w") else problem.data_shape
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype != dtype:
            raise ValueError(f"{name}: shape {shape} of {tensor.dtype}, expected {dtype}")
        if tensor.device != device:
            raise ValueError(f"{name}: shape {shape} on {tensor.device}, expected {device}, as x")
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name}: shape {shape} with strides {tensor.stride()}, expected contiguous"
            )
