"""The sections and figures of the page: titles, texts, and the columns of their tables.

The scripts under ``assets`` draw the figures in the browser, and redraw them when a filter changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from gspn2bench.records.schema import Profile
from gspn2bench.report.formatting import BY, TIMES, count, number, percent, speedup
from gspn2bench.report.tables import Column

CONFIG: Final = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtons": [["toImage"]],
}
"""Plotly's configuration of every figure."""


@dataclass(frozen=True)
class Drawing:
    """A figure: its id, its title, the text shown if it is empty, the columns of its table."""

    id: str
    title: str
    nothing: str
    columns: tuple[Column, ...]
    timed: bool = True
    """Whether it needs latencies, which a simulated run does not have."""


@dataclass(frozen=True)
class Section:
    """A section of the page, its introduction and its figures."""

    id: str
    title: str
    intro: str
    figures: tuple[Drawing, ...]


KEYS: Final = (Column("case", "title"), Column("rung", "tick"))
LATENCY: Final = (
    Column("latency, ms", "latency_ms", number),
    Column("95 % low, ms", "latency_ms_low", number),
    Column("95 % high, ms", "latency_ms_high", number),
)
SPEEDUP: Final = (Column("speed-up", "speedup", speedup), Column("base", "base_rung"))
FLOOR: Final = Column("floor, ms", "floor_ms", number)
L2: Final = Column("L2", "l2")
NO_LATENCY: Final = (
    "Nothing to plot: with these filters no row has a latency. The table of all rows has the"
    " reasons."
)
ONE_SIZE: Final = "Nothing to plot: with these filters {} does not vary on its own."

LADDER: Final = Drawing(
    "ladder",
    "Latency of each rung",
    NO_LATENCY,
    (
        *KEYS,
        Column("status", "status"),
        *LATENCY,
        Column("host time, ms", "host_ms", number, optional=True),
        *SPEEDUP,
        FLOOR,
        Column("published, ms", "published_ms", number, optional=True),
        Column("published, GB/s as the source counts", "published_gbps", number, optional=True),
        Column("published on", "published_machine", optional=True),
        Column("source", "published_source", optional=True),
    ),
)
SCALED: Final = (*KEYS, Column("fixed", "held"), L2, *LATENCY, *SPEEDUP, FLOOR)
AXES: Final = {
    "size": ("Latency by size", "the size", ["batch", "channels"]),
    "channels": (
        "Latency by channels",
        "the number of channels",
        ["batch", "height", "width"],
    ),
    "batch": ("Latency by batch", "the batch", ["channels", "height", "width"]),
    "slices": (
        f"Latency by slices, N{BY}C",
        "the number of slices",
        ["height", "width"],
    ),
}
"""Per axis of the scaling figures: the title, the quantity, and the fields fixed along it."""
CHOSEN: Final = ["run", "phase", "timing", "dtype", "weights"]
"""Fields that the page's controls fix to one value."""
HEAT: Final = Drawing(
    "heat",
    f"Speed-up over batch {BY} channels",
    "Nothing to plot: with these filters no rung has speed-ups at several batches and channels.",
    (
        *KEYS,
        Column("batch", "batch", count),
        Column("channels", "channels", count),
        *LATENCY[:1],
        *SPEEDUP,
    ),
)
ROOFLINE: Final = Drawing(
    "roofline",
    "Throughput and share of the floor by bytes",
    NO_LATENCY,
    (
        *KEYS,
        L2,
        Column("model, bytes", "bytes_model", count),
        *LATENCY[:1],
        Column("model bytes / latency, GB/s", "gbps", number),
        Column("share of copy bandwidth", "copy_share", percent),
        FLOOR,
        Column("floor / latency", "floor_share", percent),
        Column("bound of the floor", "floor_bound", optional=True),
    ),
)
LAUNCHES: Final = Drawing(
    "launches",
    "Launches per call",
    "Nothing to plot: with these filters no row with a green gate has counted launches.",
    (
        *KEYS,
        Column("expected", "launches_expected", count),
        Column("observed", "launches_observed", count),
    ),
    timed=False,
)
BYTES: Final = Drawing(
    "bytes",
    "Bytes per call",
    "Nothing to plot: with these filters no row with a green gate has bytes.",
    (
        *KEYS,
        Column("model: each input and output once", "bytes_model", count),
        Column("traced in the simulator", "bytes_traced", count, optional=True),
        Column(f"traced / model, {TIMES}", "traced_ratio", number, optional=True),
        Column("DRAM, by hardware counters", "bytes_dram", count, optional=True),
        Column(f"DRAM / model, {TIMES}", "dram_ratio", number, optional=True),
    ),
    timed=False,
)
SAMPLES: Final = Drawing(
    "samples",
    "Samples of one row",
    "Nothing to plot: with these filters no row has samples.",
    (Column("sample", "tick"), Column("latency, ms", "sample_ms", number)),
)
TIMELINE: Final = Drawing(
    "timeline",
    "Timeline of one call",
    "Nothing to plot: this run has no profile that matches these filters.",
    (
        Column("case", "case"),
        Column("rung", "tick"),
        Column("profiler", "tool"),
        Column("launches", "launches", count),
        Column("launches expected", "launches_expected", count),
        Column("GPU time, ms", "gpu_ms", number),
        Column("first start to last end, ms", "span_ms", number, optional=True),
        Column("idle, ms", "gap_ms", number, optional=True),
    ),
)


def sections(table: pd.DataFrame, profiles: Sequence[Profile]) -> list[Section]:
    """The sections that have content for these runs; a scaling figure needs a field that varies.

    Args:
        table: from ``analysis.frame``.
        profiles: the profiles of all runs.
    """
    timed = table[table["latency_ms"].notna()]
    result = [
        Section(
            "ladder",
            "The ladder",
            "Latency of one call for each rung. Patterned bars are published figures from other"
            " machines. They are shown for reference and enter no calculation.",
            (LADDER,),
        )
    ]
    sized = timed.assign(
        size=timed["height"] * timed["width"], slices=timed["batch"] * timed["channels"]
    )
    scaled = [
        Drawing(key, title, ONE_SIZE.format(quantity), SCALED)
        for key, (title, quantity, fixed) in AXES.items()
        if _varies(sized, fixed, key).any()
    ]
    if scaled:
        result.append(
            Section(
                "scaling",
                "Scaling",
                "Latency as one quantity grows and the rest is fixed, with 95 % intervals.",
                tuple(scaled),
            )
        )
    faster = timed[timed["rung"] != timed["base_rung"]]
    plane = ["rung", "height", "width"]
    if (_varies(faster, plane, "batch") & _varies(faster, plane, "channels")).any():
        result.append(
            Section(
                "speedup",
                "Speed-up",
                "Speed-up of the last rung selected above, over its base.",
                (HEAT,),
            )
        )
    if len(timed):
        result.append(
            Section(
                "roofline",
                "Roofline",
                "Top: model bytes over latency, below the copy bandwidth measured in the same run."
                " Bottom: floor over latency. The floor is the least time of a case, by its bytes"
                " or by its chain of dependent steps.",
                (ROOFLINE,),
            )
        )
    result += [
        Section(
            "launches",
            "Launches",
            "Kernel launches per call: the number that the rung declares, and the number observed.",
            (LAUNCHES,),
        ),
        Section(
            "bytes",
            "Bytes",
            "Global-memory traffic per call. The model counts compulsory bytes: each input read"
            " once, each output written once.",
            (BYTES,),
        ),
    ]
    if len(timed):
        result.append(
            Section(
                "samples",
                "Samples",
                "The samples behind one latency. Select a row here, or use its button in All rows.",
                (SAMPLES,),
            )
        )
    if profiles:
        result.append(
            Section(
                "timeline",
                "Timeline",
                "The launches of one call of median length, as recorded by a profiler. Profiling"
                " adds overhead, so these times are kept apart from the latencies.",
                (TIMELINE,),
            )
        )
    return result


def _varies(table: pd.DataFrame, fixed: list[str], key: str) -> "pd.Series[bool]":
    """Whether a column varies, per combination of the controls and the fixed fields."""
    return table.groupby([*CHOSEN, *fixed])[key].nunique() > 1
