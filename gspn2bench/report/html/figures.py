"""The figures of the page: what each shows, when it is there at all, the table behind it.

They are drawn in the browser from the page's data, by the script that bears the section's name, so
that they follow the page's controls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from gspn2bench.records.schema import Profile
from gspn2bench.report.formatting import BY, TIMES, count, number, percent, speedup
from gspn2bench.report.tables import Column

PUBLISHED_KEYS: Final = ["run", "case", "phase", "dtype", "weights", "directions", "chunk"]

CONFIG: Final = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtons": [["toImage"]],
}
"""Of Plotly, for every figure."""


@dataclass(frozen=True)
class Drawing:
    """A figure: its id, its title, what is said where it is empty, the columns of its table."""

    id: str
    title: str
    nothing: str
    columns: tuple[Column, ...]
    timed: bool = True
    """Needs latencies, which a simulated run has not."""


@dataclass(frozen=True)
class Section:
    """A section of the page and its figures."""

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
    "No figure: no row of this choice has a latency; the table of all rows says why."
)
ONE_SIZE: Final = "No figure: in this choice {} does not vary while the rest is held still."

LADDER: Final = Drawing(
    "ladder",
    "Latency of each rung",
    NO_LATENCY,
    (
        *KEYS,
        Column("status", "status"),
        *LATENCY,
        *SPEEDUP,
        FLOOR,
        Column("published, ms", "published_ms", number, optional=True),
        Column("published, GB/s as its source counts", "published_gbps", number, optional=True),
        Column("published on", "published_machine", optional=True),
        Column("source", "published_source", optional=True),
    ),
)
SCALED: Final = (*KEYS, Column("held still", "held"), L2, *LATENCY, *SPEEDUP, FLOOR)
AXES: Final = {
    "size": ("Latency against size", "the size", ["batch", "channels"]),
    "channels": (
        "Latency against channels",
        "the number of channels",
        ["batch", "height", "width"],
    ),
    "batch": ("Latency against batch", "the batch", ["channels", "height", "width"]),
    "slices": (
        f"Latency against slices, N{BY}C",
        "the number of slices",
        ["height", "width"],
    ),
}
"""Of each axis that latency is drawn against: the title, its name, what is held still along it."""
CHOSEN: Final = ["run", "phase", "timing", "dtype", "weights"]
"""What the page's controls hold still."""
HEAT: Final = Drawing(
    "heat",
    f"Speed-up over batch {BY} channels",
    "No figure: in this choice no rung has a speed-up at several batches and channels.",
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
    "Rate and share of the floor against bytes",
    NO_LATENCY,
    (
        *KEYS,
        L2,
        Column("model, bytes", "bytes_model", count),
        *LATENCY[:1],
        Column("model bytes / latency, GB/s", "gbps", number),
        Column("of copy bandwidth", "copy_share", percent),
        FLOOR,
        Column("floor / latency", "floor_share", percent),
    ),
)
LAUNCHES: Final = Drawing(
    "launches",
    "Launches of one call",
    "No figure: no row behind a green gate counted launches in this choice.",
    (
        *KEYS,
        Column("expected by formula", "launches_expected", count),
        Column("observed", "launches_observed", count),
    ),
    timed=False,
)
BYTES: Final = Drawing(
    "bytes",
    "Bytes of one call",
    "No figure: no row behind a green gate has bytes in this choice.",
    (
        *KEYS,
        Column("model: inputs and outputs once each", "bytes_model", count),
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
    "No figure: no row of this choice has samples.",
    (Column("sample", "tick"), Column("latency, ms", "sample_ms", number)),
)
TIMELINE: Final = Drawing(
    "timeline",
    "Time line of one call",
    "No figure: no profile of this run is of this choice.",
    (
        Column("case", "case"),
        Column("rung", "tick"),
        Column("profiler", "tool"),
        Column("launches", "launches", count),
        Column("launches expected", "launches_expected", count),
        Column("GPU time, ms", "gpu_ms", number),
        Column("first start to last end, ms", "span_ms", number, optional=True),
        Column("in which nothing ran, ms", "gap_ms", number, optional=True),
    ),
)


def sections(table: pd.DataFrame, profiles: Sequence[Profile]) -> list[Section]:
    """The sections that these runs fill; a figure of sizes needs sizes that vary.

    Args:
        table: from ``analysis.frame``.
        profiles: of all runs.
    """
    timed = table[table["latency_ms"].notna()]
    made = [
        Section(
            "ladder",
            "The ladder",
            "Latency of one call, rung by rung. Bars with a pattern are published figures from"
            " other machines, shown beside ours and never mixed with them.",
            (LADDER,),
        )
    ]
    sized = timed.assign(
        size=timed["height"] * timed["width"], slices=timed["batch"] * timed["channels"]
    )
    scaled = [
        Drawing(key, title, ONE_SIZE.format(what), SCALED)
        for key, (title, what, held) in AXES.items()
        if _varies(sized, held, key).any()
    ]
    if scaled:
        made.append(
            Section(
                "scaling",
                "Scaling",
                "Latency as one thing grows and the rest is held still; bars are 95 % intervals.",
                tuple(scaled),
            )
        )
    faster = timed[timed["rung"] != timed["base_rung"]]
    plane = ["rung", "height", "width"]
    if (_varies(faster, plane, "batch") & _varies(faster, plane, "channels")).any():
        made.append(
            Section(
                "speedup",
                "Speed-up",
                "Speed-up over the base of the last rung chosen above.",
                (HEAT,),
            )
        )
    if len(timed):
        made.append(
            Section(
                "roofline",
                "Roofline",
                "Compulsory bytes over latency, under what a plain copy reaches in the same run;"
                " and how near each point is to the least time of its case, in which the scan's"
                " dependent steps count as well.",
                (ROOFLINE,),
            )
        )
    made += [
        Section(
            "launches",
            "Launches",
            "Kernel launches of one call: what the rung's formula expects, and what was seen.",
            (LAUNCHES,),
        ),
        Section(
            "bytes",
            "Bytes",
            "Global-memory traffic of one call. The model counts compulsory bytes: each input read"
            " once, each output written once.",
            (BYTES,),
        ),
    ]
    if len(timed):
        made.append(
            Section(
                "samples",
                "Samples",
                "What lies behind a latency: choose a row here, or by its button among all rows.",
                (SAMPLES,),
            )
        )
    if profiles:
        made.append(
            Section(
                "timeline",
                "Time line",
                "The launches of one call of median length, as a profiler saw them; the profiler"
                " costs time of its own, so that these are never mixed with latencies.",
                (TIMELINE,),
            )
        )
    return made


def _varies(table: pd.DataFrame, held: list[str], key: str) -> "pd.Series[bool]":
    """For each choice and each value of what is held still, whether a column varies."""
    return table.groupby([*CHOSEN, *held])[key].nunique() > 1
