"""The description of a module in a sweep: how to build it for a case, and its limits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gspn2bench.baselines.modules.networks import Attention
from gspn2bench.cases.scenario import Case
from gspn2bench.label import check_rung_id
from gspn2bench.problem import Part


def always_supported(case: Case) -> str | None:  # noqa: ARG001
    """No limits: always None."""
    return None


@dataclass(frozen=True)
class Module:
    """A PyTorch module that sweeps check and measure like a rung.

    Args:
        id: its name in rows and in ``--rung``.
        title: a few words.
        idea: one line, for ``gspn2bench list``.
        source: paper and section, or library.
        build: for each part that it can run, builds the module of a case. Parameters are drawn
            from torch's random numbers.
        attention: of the whole networks among the parts.
        compiled: whether the module runs under torch.compile.
        unsupported_reason: returns why it can't run a case of these parts; None if it can.

    Raises:
        ValueError: the range of a profiler cannot carry the id.
    """

    id: str
    title: str
    idea: str
    source: str
    build: dict[Part, Callable[[Case], nn.Module]]
    attention: Attention | None = None
    compiled: bool = False
    unsupported_reason: Callable[[Case], str | None] = always_supported

    def __post_init__(self) -> None:
        check_rung_id(self.id)
