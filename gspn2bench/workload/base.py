"""The interface of a workload, through which a trial binds, checks and describes one call."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor

from gspn2bench.kernels.contract import Call
from gspn2bench.workload.gate import GateResult
from gspn2bench.workload.inputs import VARIED

OperandsT = TypeVar("OperandsT")
"""The tensors of one call."""


class Workload(ABC, Generic[OperandsT]):
    """One call: its operands, its set-up, its correctness check and its declared figures."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Workloads with equal keys can share operands."""

    @property
    @abstractmethod
    def skip_reason(self) -> str | None:
        """Why the workload cannot run; None if it can."""

    @property
    @abstractmethod
    def launches(self) -> int | None:
        """Declared kernel launches per call; None if undeclared."""

    @property
    def graph_unsupported_reason(self) -> str | None:
        """Why a CUDA graph cannot capture the call; None if it can."""
        return None

    @property
    @abstractmethod
    def traffic(self) -> int:
        """Declared bytes that one call must move."""

    @property
    @abstractmethod
    def compulsory_bytes(self) -> int:
        """Bytes of one call if each input is read once and each output is written once."""

    @property
    @abstractmethod
    def dependent_fmas(self) -> int:
        """FMAs that must follow each other in the longest scan, at least; 0 for modules."""

    @property
    @abstractmethod
    def elements(self) -> int:
        """Elements of the input; the simulator's time is proportional to them."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Any]:
        """The fields of ``schema.Row`` that describe the workload, by name."""

    @abstractmethod
    def operands(self, device: str, seed: int) -> OperandsT:
        """Make operands: seeded inputs, and outputs without a result.

        Args:
            device: torch device of every tensor.
            seed: for the random inputs.
        """

    @abstractmethod
    def clone(self, operands: OperandsT) -> OperandsT:
        """Copy operands to new memory."""

    @abstractmethod
    def bind(self, operands: OperandsT) -> Call:
        """Set up the call on these operands, outside the timed region.

        Raises:
            ValueError: the operands do not fit the workload; the message names the argument.
        """

    @abstractmethod
    def check(self, operands: OperandsT, call: Call) -> GateResult:
        """Run the call once on poisoned outputs and compare every output with the reference."""

    @abstractmethod
    def compare(self, operands: OperandsT) -> GateResult:
        """Compare every output with the reference, as the last call left it."""

    @abstractmethod
    def inputs(self, operands: OperandsT) -> Mapping[str, list[Tensor]]:
        """The tensors that the call reads and must not change, by name."""

    @abstractmethod
    def vary(self, operands: OperandsT, factor: float = VARIED) -> None:
        """Scale inputs in place; every output of the next call differs from the last.

        Args:
            operands: of the call.
            factor: ``1 / VARIED`` restores inputs that were scaled by ``VARIED``.
        """
