"""What a trial asks of a workload, whatever it runs."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor

from gspn2bench.kernels.contract import Call
from gspn2bench.workload.gate import GateResult

Held = TypeVar("Held")
"""The tensors of one call."""


class Workload(ABC, Generic[Held]):
    """One call: its tensors, its set-up, what it is held to, and what is known of it beforehand."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Calls of workloads with the same key can work on the same tensors."""

    @property
    @abstractmethod
    def unsupported(self) -> str | None:
        """Why it can't be run; None if it can."""

    @property
    @abstractmethod
    def launches(self) -> int | None:
        """Kernel launches of one call, as declared; None where they are not."""

    @property
    def not_in_graphs(self) -> str | None:
        """Why a CUDA graph can't hold the call, or None if it can."""
        return None

    @property
    @abstractmethod
    def traffic(self) -> int:
        """Bytes that one call must move, as declared."""

    @property
    @abstractmethod
    def compulsory_bytes(self) -> int:
        """Bytes with each input read once and each output written once."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Lines that depend on each other, one after the other."""

    @property
    @abstractmethod
    def elements(self) -> int:
        """What the simulator's time grows with."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Any]:
        """The fields of a ``schema.Row`` that say what is run, by name."""

    @abstractmethod
    def operands(self, device: str, seed: int) -> Held:
        """Seeded inputs, and outputs that hold nothing yet."""

    @abstractmethod
    def clone(self, operands: Held) -> Held:
        """The same values in memory of their own."""

    @abstractmethod
    def bind(self, operands: Held) -> Call:
        """The call on these tensors, set up outside the timed region.

        Raises:
            ValueError: it can't be run on them; the message names the argument.
        """

    @abstractmethod
    def check(self, operands: Held, call: Call) -> GateResult:
        """Run the call once on poisoned outputs, and hold every output to the reference."""

    @abstractmethod
    def inputs(self, operands: Held) -> Mapping[str, list[Tensor]]:
        """The tensors that the call reads and may not change, by name."""

    @abstractmethod
    def vary(self, operands: Held) -> None:
        """Change the inputs in place, so that every output has to change."""
