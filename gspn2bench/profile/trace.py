"""The contents of a profile of either tool: launches by trial."""

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
    """A file is not a readable profile; the message has the reason but does not name the file.

    The file may be a temporary export, so ``runner`` adds the name of the file that the user gave.
    """


@dataclass(frozen=True)
class TracedLaunch:
    """One kernel, memcpy or memset on the GPU.

    Args:
        name: name of the kernel without namespaces and types, "[memcpy]" or "[memset]".
        duration_ns: duration on the GPU.
        start_ns: start on the profiler's clock; None if launches were serialized.
        in_graph: whether it is a node of a CUDA graph.
    """

    name: str
    duration_ns: int
    start_ns: int | None = None
    in_graph: bool = False

    @property
    def end_ns(self) -> int:
        """End on the profiler's clock."""
        return (self.start_ns or 0) + self.duration_ns


@dataclass(frozen=True)
class ProfilerTrace:
    """The contents of a profiler's file.

    Args:
        tool: the tool that wrote it.
        tool_version: version of the tool; None if the file does not have it.
        gpus: names of the machine's GPUs; empty if the file does not have them.
        launches: launches by label, in order of start; the key is None if the range ``measure``
            has no label.
        scenarios: names inside the ranges ``scenario``.
    """

    tool: Tool
    tool_version: str | None
    gpus: tuple[str, ...]
    launches: dict[Label | None, list[TracedLaunch]]
    scenarios: frozenset[str] = field(default=frozenset())


def base_name(name: str) -> str:
    """The name of a kernel without namespaces, from a plain, demangled or mangled C++ name.

    >>> base_name("gspn2bench::kernels::r07_gspn2::r07_gspn2_forward[abi:v1](Array<float, 1>)")
    'r07_gspn2_forward'
    >>> base_name("_ZN10gspn2bench9r07_gspn217r07_gspn2_forwardB2v1E5ArrayIfLi1E")
    'r07_gspn2_forward'
    """
    if nested := _NESTED.match(name):
        parts, position = [], nested.end()
        while length := _LENGTH.match(name, position):
            position = length.end() + int(length[0])
            parts.append(name[length.end() : position])
        return parts[-1] if parts else name
    plain = re.split(r"[\[(<]", name, maxsplit=1)[0].strip()
    return re.split(r"::|\s", plain)[-1] or name


def one_line(text: str) -> str:
    """A text from a file, for a message: without line breaks and control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def of_ladder(rung: str) -> bool:
    """Whether an id belongs to the ladder, whose kernel names start with the id."""
    return re.fullmatch(_LADDER, rung) is not None


def rung_of(name: str) -> tuple[str, str | None] | None:
    """Rung and phase from the name of a kernel of the ladder; None for any other name."""
    rung, phase = _RUNG.match(name), _PHASE.search(name)
    return (rung[1], phase[1] if phase else None) if rung else None
