"""What one call of a rung does: one scan, or the four directions of one input side by side."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import INPUTS, Call, Operands, Rung
from gspn2bench.kernels.streams import side_by_side
from gspn2bench.problem import ScanProblem
from gspn2bench.workload import gate, inputs
from gspn2bench.workload.base import Workload


@dataclass(frozen=True)
class Scans(Workload[tuple[Operands, ...]]):
    """The scans of one call; several read the same x, and have weights and outputs of their own.

    Args:
        rung: that runs them.
        problems: one for each direction.
    """

    rung: Rung
    problems: tuple[ScanProblem, ...]

    @classmethod
    def of(cls, case: Case, rung: Rung) -> Self:
        """The scans that a case asks of a rung."""
        return cls(rung, case.problems(rung.native))

    @property
    def first(self) -> ScanProblem:
        """The scan that stands for all of them: they differ in direction only."""
        return self.problems[0]

    @property
    def key(self) -> Hashable:
        """Rungs that run the same scans can work on the same tensors."""
        return self.problems

    @property
    def unsupported(self) -> str | None:
        """Why the rung can't run one of the scans; None if it can run all."""
        reasons = (self.rung.unsupported(problem) for problem in self.problems)
        return next(filter(None, reasons), None)

    @property
    def launches(self) -> int | None:
        """Kernel launches of one call, as the rung declares them; None where it does not."""
        declared = self.rung.launches
        return None if declared is None else sum(map(declared, self.problems))

    @property
    def not_in_graphs(self) -> str | None:
        """Why a CUDA graph can't hold the rung's call, or None if it can."""
        return self.rung.not_in_graphs

    @property
    def traffic(self) -> int:
        """Bytes that one call must move, as the rung declares them."""
        return sum(map(self.rung.traffic, self.problems))

    @property
    def compulsory_bytes(self) -> int:
        """Bytes with each input read once, x for all scans together, and each output written."""
        x = self.first.slices * self.first.plane * self.first.item_bytes
        return sum(p.compulsory_bytes for p in self.problems) - x * (len(self.problems) - 1)

    @property
    def steps(self) -> int:
        """Dependent lines of the longest chain."""
        return max(problem.chunk_length for problem in self.problems)

    @property
    def elements(self) -> int:
        """Elements of x, over all scans."""
        return sum(problem.slices * problem.plane for problem in self.problems)

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is scanned, and how."""
        problem = self.first
        several = len(self.problems) > 1
        return {
            "channels": problem.channels,
            "direction": "all" if several else problem.direction,
            "directions": len(self.problems),
            "chunk": problem.chunk_length,
            "weights": problem.weights,
            "logits": problem.logits,
        }

    def operands(self, device: str, seed: int) -> tuple[Operands, ...]:
        """Seeded operands for each scan, outputs poisoned."""
        made = (inputs.make(p, device, seed + i) for i, p in enumerate(self.problems))
        return _sharing_x(made)

    def clone(self, operands: tuple[Operands, ...]) -> tuple[Operands, ...]:
        """The same values in memory of their own."""
        return _sharing_x(map(inputs.clone, operands))

    def bind(self, operands: tuple[Operands, ...]) -> Call:
        """The call that runs every scan.

        Raises:
            ValueError: as ``Rung.bind``.
        """
        scans = zip(self.problems, operands, strict=True)
        calls = [self.rung.bind(problem, each) for problem, each in scans]
        return calls[0] if len(calls) == 1 else side_by_side(calls)

    def check(self, operands: tuple[Operands, ...], call: Call) -> gate.GateResult:
        """Every output of every scan against the float64 reference: see ``gate.check_all``."""
        return gate.check_all(list(zip(self.problems, operands, strict=True)), call)

    def inputs(self, operands: tuple[Operands, ...]) -> Mapping[str, list[Tensor]]:
        """What the phase reads, by name: a tensor of each scan."""
        names = INPUTS[self.first.phase]
        return {name: [getattr(each, name) for each in operands] for name in names}

    def vary(self, operands: tuple[Operands, ...]) -> None:
        """Change x and the incoming gradient; outputs are linear in them."""
        inputs.vary(operands)


def _sharing_x(operands: Iterable[Operands]) -> tuple[Operands, ...]:
    first, *others = operands
    return (first, *(replace(each, x=first.x) for each in others))
