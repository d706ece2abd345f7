"""Four scans of one input as one call: what it computes, and its tensors.

A rung that scans four directions at once declares it in ``Rung.four``. Its set-up depends on a
``FourProblem`` only, so one set-up serves calls on any tensors of these sizes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gspn2bench.problem import DIRECTIONS, Direction, Phase, ScanProblem


@dataclass(frozen=True)
class FourProblem:
    """The scans of one call. They share x, and differ only in direction.

    Args:
        scan: sizes, types, weights and phase. Its direction does not count, but its chunk is
            checked against it.
        directions: all four in the order of ``DIRECTIONS``, or one.
        logits: whether w holds logits, in backward too. Backward then returns their gradient.
        with_u: whether the result is u h. Backward then takes its gradient.
        with_h: whether forward writes h; with u it may write u h only.
        with_bias: whether a bias is added to x, lam, u and w as they are read; in forward only.
        channels_outermost: whether images lie channel by channel: memory is (C, N, H, W).
    """

    scan: ScanProblem
    directions: tuple[Direction, ...] = DIRECTIONS
    logits: bool = False
    with_u: bool = False
    with_h: bool = True
    with_bias: bool = False
    channels_outermost: bool = False

    @classmethod
    def of_scan(cls, problem: ScanProblem) -> "FourProblem":
        """One scan as a call of its own."""
        return cls(problem, (problem.direction,), logits=problem.logits)

    @classmethod
    def of_scans(cls, problems: tuple[ScanProblem, ...]) -> "FourProblem":
        """Four scans that differ only in direction, and in a chunk that is their whole length."""
        longest = max(problems, key=lambda problem: problem.steps)
        return cls(longest, logits=longest.logits)

    @property
    def first(self) -> int:
        """Index of the first direction in ``DIRECTIONS``."""
        return DIRECTIONS.index(self.directions[0])

    @property
    def phase(self) -> Phase:
        """Forward or backward."""
        return self.scan.phase

    @property
    def steps(self) -> int:
        """Lines of the longest scan."""
        return max(self.scan.height if vertical else self.scan.width for vertical in self._axes)

    @property
    def line(self) -> int:
        """Positions of the longest line."""
        return max(self.scan.width if vertical else self.scan.height for vertical in self._axes)

    @property
    def _axes(self) -> set[bool]:
        """Whether the scans are vertical."""
        return {direction in ("down", "up") for direction in self.directions}


@dataclass(slots=True)  # not frozen: a frozen one takes 4 us to make
class FourOperands:
    """The tensors of four scans. D is the number of directions.

    All are contiguous, or all lie channel by channel.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, (D, N, C, H, W).
        w: weights or logits, (D, 3, N, C, H, W), or (D, 3, N, H, W) if the channels share them.
        h: hidden state, like lam: output of forward, input of backward.
        u: output scale, like lam.
        y: u h, like lam: output of forward.
        grad: incoming gradient of h, or of y if there is a u; like lam.
        grad_x: gradient of x from each direction, like lam.
        grad_lam: like lam.
        grad_w: like w.
        grad_u: like lam.
        bias: one value for each channel of x, then of lam, u and w: C + D C + D C + 3 D, or 3 D C
            at the end if each channel has its own weights.
        scratch: float32 memory that the call writes, then reads: as many values as
            ``FourKernels.scratch`` says.
    """

    x: Tensor
    lam: Tensor
    w: Tensor
    h: Tensor | None = None
    u: Tensor | None = None
    y: Tensor | None = None
    grad: Tensor | None = None
    grad_x: Tensor | None = None
    grad_lam: Tensor | None = None
    grad_w: Tensor | None = None
    grad_u: Tensor | None = None
    bias: Tensor | None = None
    scratch: Tensor | None = None


FourCall = Callable[[FourOperands], None]
"""Launches the kernels on these tensors, on torch's current stream."""


@dataclass(frozen=True)
class FourKernels:
    """How a rung scans four directions in one call.

    Args:
        prepare: set-up that does not depend on the tensors: compiles the kernels, returns the call.
        launches: kernel launches of one call.
        traffic: bytes that one call must move.
        scratch: float32 values of scratch memory that one call needs.
    """

    prepare: Callable[[FourProblem], FourCall]
    launches: Callable[[FourProblem], int]
    traffic: Callable[[FourProblem], int]
    scratch: Callable[[FourProblem], int]
