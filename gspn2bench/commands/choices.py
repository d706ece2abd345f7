"""The words that options take: enums that Typer lists, completes and checks; and lists of words.

The modules that take these words are slow to import, so the words are written here again.
"""

from collections.abc import Sequence
from enum import StrEnum

from gspn2bench.errors import UsageError, unknown


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
    """Latency modes that can be profiled; device time needs CUPTI, which the profiler uses."""

    EAGER = "eager"
    GRAPH = "graph"


class Profiler(StrEnum):
    """The profilers: see ``profile.trace.Tool``."""

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
        option: its name, for errors.
        text: the words, comma-separated.
        known: the words to choose from; empty where any will do.

    Raises:
        UsageError: a word is empty, repeated, or not one of ``known``.
    """
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if not word:
            raise UsageError(f"--{option}: an empty name in {text!r}")
        if words.count(word) > 1:
            raise UsageError(f"--{option}: {word!r} is given twice in {text!r}")
        if known and word not in known:
            raise unknown(option, word, known)
    return words
