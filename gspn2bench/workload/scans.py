"""The workload of a rung: one scan, or the four directions of one input.

The four run in one launch if the rung can do that, otherwise side by side on streams.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import INPUTS, Call, Operands, Rung
from gspn2bench.kernels.four import FourKernels, FourOperands, FourProblem
from gspn2bench.kernels.operand_arrays import scratch_tensor
from gspn2bench.kernels.streams import side_by_side
from gspn2bench.problem import ScanProblem
from gspn2bench.workload import gate, inputs
from gspn2bench.workload.base import Workload
from gspn2bench.workload.inputs import VARIED


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
        if self._four is not None:
            return self._four.launches(FourProblem.of_scans(self.problems))
        declared = self.rung.launches
        return None if declared is None else sum(map(declared, self.problems))

    @property
    def graph_unsupported_reason(self) -> str | None:
        """Why a CUDA graph cannot capture the call; None if it can."""
        return self.rung.graph_unsupported_reason

    @property
    def traffic(self) -> int:
        """Bytes that one call must move, as declared by the rung."""
        if self._four is not None:
            return self._four.traffic(FourProblem.of_scans(self.problems))
        return sum(map(self.rung.traffic, self.problems))

    @property
    def compulsory_bytes(self) -> int:
        """Bytes if each input is read once and each output is written once; x is shared."""
        x = self.first.slices * self.first.plane * self.first.item_bytes
        total = sum(problem.compulsory_bytes for problem in self.problems)
        return total - x * (len(self.problems) - 1)

    @property
    def dependent_fmas(self) -> int:
        """FMAs that must follow each other in the longest scan, at least."""
        return max(problem.dependent_fmas for problem in self.problems)

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
        return _joined(list(scans))

    def clone(self, operands: tuple[Operands, ...]) -> tuple[Operands, ...]:
        """Copy operands to new memory, laid out alike."""
        return _joined(list(map(inputs.clone, operands)))

    def bind(self, operands: tuple[Operands, ...]) -> Call:
        """Set up the call that runs every scan.

        Raises:
            ValueError: as for ``Rung.bind``.
        """
        if self._four is not None:
            problem = FourProblem.of_scans(self.problems)
            four, call = _four_operands(operands), self._four.prepare(problem)
            memory = scratch_tensor(four.x, (self._four.scratch(problem),), torch.float32)
            four = replace(four, scratch=memory)
            return lambda: call(four)
        scans = zip(self.problems, operands, strict=True)
        calls = [self.rung.bind(problem, scan) for problem, scan in scans]
        return calls[0] if len(calls) == 1 else side_by_side(calls)

    def check(self, operands: tuple[Operands, ...], call: Call) -> gate.GateResult:
        """Compare every output of every scan with the reference: see ``gate.check_all``."""
        return gate.check_all(list(zip(self.problems, operands, strict=True)), call)

    def compare(self, operands: tuple[Operands, ...]) -> gate.GateResult:
        """Compare the outputs as they are now: see ``gate.compare_all``."""
        return gate.compare_all(list(zip(self.problems, operands, strict=True)))

    def inputs(self, operands: tuple[Operands, ...]) -> Mapping[str, list[Tensor]]:
        """The tensors that the phase reads, by name: one per scan."""
        names = INPUTS[self.first.phase]
        return {name: [getattr(scan, name) for scan in operands] for name in names}

    def vary(self, operands: tuple[Operands, ...], factor: float = VARIED) -> None:
        """Change x and grad_h in place: see ``inputs.vary``."""
        inputs.vary(operands, factor)

    @property
    def _four(self) -> FourKernels | None:
        """How the rung scans four directions in one call, if the case has four."""
        return self.rung.four if len(self.problems) > 1 else None


def _joined(scans: list[Operands]) -> tuple[Operands, ...]:
    """The same scans, which share x. Their other tensors of one name lie side by side in memory."""
    first = scans[0]
    if len(scans) == 1:
        return (first,)
    parts: list[dict[str, Tensor]] = [{"x": first.x} for _ in scans]
    for name in _present(first) - {"x"}:
        joined = torch.stack([getattr(scan, name) for scan in scans])
        for part, tensor in zip(parts, joined.unbind(0), strict=True):
            part[name] = tensor
    return tuple(Operands(**part) for part in parts)


def _four_operands(scans: tuple[Operands, ...]) -> FourOperands:
    """The tensors of ``_joined`` scans with a leading axis of directions."""
    first = scans[0]

    def join(name: str) -> Tensor:
        tensor: Tensor = getattr(first, name)
        distance = tensor.numel()
        for index, scan in enumerate(scans):
            offset = getattr(scan, name).data_ptr() - tensor.data_ptr()
            if offset != index * distance * tensor.element_size():
                raise ValueError(f"{name}: the tensors of the directions do not lie side by side")
        return tensor.as_strided((len(scans), *tensor.shape), (distance, *tensor.stride()))

    tensors = {name: join(name) for name in _present(first) - {"x", "grad_h"}}
    if first.grad_h is not None:
        tensors["grad"] = join("grad_h")
    return FourOperands(first.x, **tensors)


def _present(operands: Operands) -> set[str]:
    """Names of the tensors that are not None."""
    return {field.name for field in fields(operands) if getattr(operands, field.name) is not None}
