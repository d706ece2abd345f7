"""Words that options accept, as enums that Typer lists, completes and checks; and lists of words.

The modules that use these words are slow to import, so the words are repeated here. A test keeps
both in step.
"""

from collections.abc import Sequence
from enum import StrEnum

from gspn2bench.errors import UsageError


class Device(StrEnum):
    """Where kernels run: see ``system.backend.Device``."""

    AUTO = "auto"
    CUDA = "cuda"
    SIM = "sim"


class L2(StrEnum):
    """The state of the L2 cache when a call starts: see ``records.schema.L2State``."""

    COLD = "cold"
    WARM = "warm"


class Timing(StrEnum):
    """Latency modes: see ``records.schema.Timing``."""

    EAGER = "eager"
    GRAPH = "graph"
    DEVICE = "device"


class ProfiledTiming(StrEnum):
    """Latency modes that can be profiled; device time needs CUPTI, which the profiler occupies."""

    EAGER = "eager"
    GRAPH = "graph"


class Profiler(StrEnum):
    """Profilers: see ``profile.trace.Tool``."""

    NSYS = "nsys"
    NCU = "ncu"


class TrafficTool(StrEnum):
    """Ways to count traffic: see ``traffic.rows.Tool``."""

    TRACE = "trace"
    NCU = "ncu"
    ALL = "all"


def comma_separated(option: str, text: str, known: Sequence[str] = ()) -> tuple[str, ...]:
    """The words of an option, in order.

    Args:
        option: name of the option, for errors.
        text: its value, words separated by commas.
        known: the words that are accepted; empty if every word is.

    Raises:
        UsageError: a word is empty, repeated, or not accepted.
    """
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if not word:
            raise UsageError(f"--{option}: {text!r} contains an empty name")
        if words.count(word) > 1:
            raise UsageError(f"--{option}: {text!r} contains {word!r} twice")
        if known and word not in known:
            raise UsageError(f"--{option}: {word!r} is not one of {', '.join(known)}")
    return words
