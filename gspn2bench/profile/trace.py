"""What a profile holds, whichever tool it is from: launches, by the trial that made them."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from gspn2bench.label import Label

Tool = Literal["nsys", "ncu"]

_NESTED: Final = re.compile(r"_ZN[KV]*")
_LENGTH: Final = re.compile(r"\d+")
_LADDER: Final = r"r\d\d[a-z]?"
_RUNG: Final = re.compile(rf"({_LADDER})_")
_PHASE: Final = re.compile(r"_(forward|backward)(?:_|$)")


class UnreadableError(Exception):
    """A file that is not a readable profile; the message says why and does not name the file.

    What is read may be a temporary export of the file that the user gave: ``runner`` names that.
    """


@dataclass(frozen=True)
class TracedLaunch:
    """One kernel, copy or fill on the GPU.

    Args:
        name: of the kernel without namespaces and types; "[copy]" or "[fill]".
        duration_ns: on the GPU.
        start_ns: on the profiler's clock; None where launches were run one by one.
        in_graph: whether it is a node of a CUDA graph.
    """

    name: str
    duration_ns: int
    start_ns: int | None = None
    in_graph: bool = False

    @property
    def end_ns(self) -> int:
        """When it ended, on the profiler's clock."""
        return (self.start_ns or 0) + self.duration_ns


@dataclass(frozen=True)
class ProfilerTrace:
    """A file of a profiler, read.

    Args:
        tool: that wrote it.
        tool_version: None where the file does not say.
        gpus: names of the machine's GPUs; empty where the file does not say.
        launches: by label, in order of start; under None where the ``measure`` range has no label.
        scenarios: names inside the range ``scenario``.
    """

    tool: Tool
    tool_version: str | None
    gpus: tuple[str, ...]
    launches: dict[Label | None, list[TracedLaunch]]
    scenarios: frozenset[str] = field(default=frozenset())


def base_name(name: str) -> str:
    """A kernel's own name, from a plain, demangled or mangled C++ name.

    >>> base_name("gspn2bench::kernels::r07_gspn2::r07_gspn2_forward[abi:v1](Array<float, 1>)")
    'r07_gspn2_forward'
    >>> base_name("_ZN10gspn2bench9r07_gspn217r07_gspn2_forwardB2v1E5ArrayIfLi1E")
    'r07_gspn2_forward'
    """
    if nested := _NESTED.match(name):
        parts, at = [], nested.end()
        while length := _LENGTH.match(name, at):
            at = length.end() + int(length[0])
            parts.append(name[length.end() : at])
        return parts[-1] if parts else name
    plain = re.split(r"[\[(<]", name, maxsplit=1)[0].strip()
    return re.split(r"::|\s", plain)[-1] or name


def of_ladder(rung: str) -> bool:
    """Whether an id is of the ladder, whose kernels have it in their names."""
    return re.fullmatch(_LADDER, rung) is not None


def rung_of(name: str) -> tuple[str, str | None] | None:
    """Rung and phase in the name of a ladder's kernel; None for any other name."""
    rung, phase = _RUNG.match(name), _PHASE.search(name)
    return (rung[1], phase[1] if phase else None) if rung else None
