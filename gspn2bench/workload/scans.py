"""The workload of a rung: one scan, or the four directions of one input side by side."""

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
    """The scans of one call. All share x; each has its own lam, weights and outputs.

    Args:
        rung: runs the scans.
        problems: one per direction.
    """

    rung: Rung
    problems: tuple[ScanProblem, ...]

    @classmethod
    def of(cls, case: Case, rung: Rung) -> Self:
        """The scans of a case for a rung."""
        return cls(rung, case.problems(rung.native))

    @property
    def first(self) -> ScanProblem:
        """The first scan; the others differ from it only in direction."""
        return self.problems[0]

    @property
    def key(self) -> Hashable:
        """The problems: rungs with equal problems can share operands."""
        return self.problems

    @property
    def skip_reason(self) -> str | None:
        """Why the rung cannot run one of the scans; None if it can run all of them."""
        reasons = (self.rung.skip_reason(problem) for problem in self.problems)
        return next(filter(None, reasons), None)

    @property
    def launches(self) -> int | None:
        """Kernel launches per call that the rung declares; None if undeclared."""
        declared = self.rung.launches
        return None if declared is None else sum(map(declared, self.problems))

    @property
    def graph_unsupported_reason(self) -> str | None:
        """Why a CUDA graph cannot capture the call; None if it can."""
        return self.rung.graph_unsupported_reason

    @property
    def traffic(self) -> int:
        """Bytes that one call must move, as declared by the rung."""
        return sum(map(self.rung.traffic, self.problems))

    @property
    def compulsory_bytes(self) -> int:
        """Bytes if each input is read once and each output is written once; x is shared."""
        x = self.first.slices * self.first.plane * self.first.item_bytes
        total = sum(problem.compulsory_bytes for problem in self.problems)
        return total - x * (len(self.problems) - 1)

    @property
    def steps(self) -> int:
        """Dependent steps of the longest scan."""
        return max(problem.chunk_length for problem in self.problems)

    @property
    def elements(self) -> int:
        """Elements of x, summed over the scans."""
        return sum(problem.slices * problem.plane for problem in self.problems)

    @property
    def columns(self) -> Mapping[str, Any]:
        """The fields of ``schema.Row`` that describe the scans, by name."""
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
        """Make seeded operands for each scan, with poisoned outputs."""
        scans = (
            inputs.make(problem, device, seed + index)
            for index, problem in enumerate(self.problems)
        )
        return _sharing_x(scans)

    def clone(self, operands: tuple[Operands, ...]) -> tuple[Operands, ...]:
        """Copy operands to new memory; the copies share x too."""
        return _sharing_x(map(inputs.clone, operands))

    def bind(self, operands: tuple[Operands, ...]) -> Call:
        """Set up the call that runs every scan.

        Raises:
            ValueError: as for ``Rung.bind``.
        """
        scans = zip(self.problems, operands, strict=True)
        calls = [self.rung.bind(problem, scan) for problem, scan in scans]
        return calls[0] if len(calls) == 1 else side_by_side(calls)

    def check(self, operands: tuple[Operands, ...], call: Call) -> gate.GateResult:
        """Compare every output of every scan with the reference: see ``gate.check_all``."""
        return gate.check_all(list(zip(self.problems, operands, strict=True)), call)

    def inputs(self, operands: tuple[Operands, ...]) -> Mapping[str, list[Tensor]]:
        """The tensors that the phase reads, by name: one per scan."""
        names = INPUTS[self.first.phase]
        return {name: [getattr(scan, name) for scan in operands] for name in names}

    def vary(self, operands: tuple[Operands, ...]) -> None:
        """Change x and grad_h in place: see ``inputs.vary``."""
        inputs.vary(operands)


def _sharing_x(operands: Iterable[Operands]) -> tuple[Operands, ...]:
    first, *others = operands
    return (first, *(replace(scan, x=first.x) for scan in others))
