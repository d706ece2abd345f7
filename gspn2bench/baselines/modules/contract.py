"""What a module is to a sweep: how it is made of a case, and what it does not take."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gspn2bench.cases.scenario import Case
from gspn2bench.label import check_rung_id
from gspn2bench.problem import Part


def supports_all(case: Case) -> str | None:  # noqa: ARG001
    """A module without limits of its own."""
    return None


@dataclass(frozen=True)
class Module:
    """A torch module that sweeps run, gated and measured like a rung.

    Args:
        id: what rows and ``--rung`` use.
        title: a few words.
        idea: one line, for ``gspn2bench list``.
        source: paper and section, or library.
        build: makes the module of a case, with torch's random numbers; one for each part.
        compiled: whether torch.compile makes its kernels.
        supports: why it can't run a case of such a part, or None if it can.

    Raises:
        ValueError: an id that a profiler's range could not carry.
    """

    id: str
    title: str
    idea: str
    source: str
    build: dict[Part, Callable[[Case], nn.Module]]
    compiled: bool = False
    supports: Callable[[Case], str | None] = supports_all

    def __post_init__(self) -> None:
        check_rung_id(self.id)
