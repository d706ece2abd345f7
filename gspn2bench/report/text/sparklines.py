"""Throughput over a swept axis, one character per value."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from gspn2bench.analysis.frame import QUOTED, WHOLE, rung_order
from gspn2bench.problem import CASE_PHASES

BLOCKS: Final = "▁▂▃▄▅▆▇█"
MISSING: Final = "·"
MIN_VALUES: Final = 3
"""Fewest values that make a trend; the tables show fewer."""
FIELDS: Final = (
    *("batch", "channels", "height", "width", "chunking"),
    *("dtype", "weights", "logits", "directions", "part", "proxy", "l2"),
)
AXES: Final = {
    "batch": {"batch"},
    "channels": {"channels"},
    "size": {"height", "width"},
    "height": {"height"},
    "width": {"width"},
    "chunk": {"chunking"},
}
"""Numeric axes, and the fields that change along each."""


@dataclass(frozen=True)
class Trend:
    """Cases that differ along one axis only, in one latency mode.

    Args:
        axis: name of the axis.
        values: values of the axis in ascending order, at least three.
        where: the fields that the cases share, as text.
        top_gbps: throughput of a full block.
        lines: (name, phase, columns at each value) per rung and phase; missing values are NaN.
    """

    axis: str
    values: tuple[int, ...]
    where: str
    top_gbps: float
    lines: tuple[tuple[str, str, pd.DataFrame], ...]


def sparkline(values: Sequence[float], top: float) -> str:
    """One block per value between 0 and ``top``; a dot for NaN."""
    last = len(BLOCKS) - 1
    return "".join(
        MISSING if math.isnan(value) else BLOCKS[max(0, min(last, math.ceil(8 * value / top) - 1))]
        for value in values
    )


def trends(table: pd.DataFrame) -> Iterator[Trend]:
    """The trends in the rows of one run, as ``analysis.frame`` returns them.

    They use graph time if the run has any, else device time. Eager time is never used: no
    throughput is quoted for it.
    """
    timed = table[table["latency_ms"].notna()]
    timing = next((name for name in QUOTED if (timed["timing"] == name).any()), None)
    if timing is None:
        return
    rows = table[table["timing"] == timing]
    rows = rows.assign(size=rows["height"].where(rows["height"] == rows["width"]))
    for axis, moving in AXES.items():
        fixed = [field for field in FIELDS if field not in moving]
        for key, group in rows.dropna(subset=[axis]).groupby(fixed, sort=False, dropna=False):
            trend = _trend(axis, timing, dict(zip(fixed, key, strict=True)), group)
            if trend:
                yield trend


def _trend(axis: str, timing: str, shared: dict[str, Any], rows: pd.DataFrame) -> Trend | None:
    values = tuple(sorted(int(value) for value in rows[axis].unique()))
    if len(values) < MIN_VALUES:
        return None
    lines: list[tuple[str, str, pd.DataFrame]] = []
    several = rows.groupby(["rung", "phase"])["direction"].nunique().max() > 1
    for (rung, phase, direction), line in rows.groupby(["rung", "phase", "direction"]):
        fastest = line.sort_values("latency_ms").drop_duplicates(axis).set_index(axis)
        if fastest["latency_ms"].notna().sum() > 1:
            name = f"{rung} {direction}" if several else str(rung)
            lines.append((name, str(phase), fastest.reindex(values)))
    if not lines:
        return None
    lines.sort(key=lambda line: (CASE_PHASES.index(line[1]), rung_order(line[0])))
    top = float(rows[["gbps", "copy_gbps"]].to_numpy(na_value=0.0).max())
    return Trend(axis, values, _where(shared, timing), top, tuple(lines))


def _where(shared: dict[str, Any], timing: str) -> str:
    height, width = shared.get("height"), shared.get("width")
    extents = [f"H{height}" if height else "", f"W{width}" if width else ""]
    case = [
        f"N{shared['batch']}" if "batch" in shared else "",
        f"C{shared['channels']}" if "channels" in shared else "",
        *([f"{height}x{width}"] if height and width else extents),
        shared["dtype"],
    ]
    parts = [
        " ".join(part for part in case if part),
        "shared weights" if shared["weights"] == "shared" else "",
        "logits" if shared["logits"] else "",
        shared["chunking"] if shared.get("chunking", WHOLE) != WHOLE else "",
        f"{shared['directions']} directions" if shared["directions"] > 1 else "",
        shared["part"] if shared["part"] != "kernel" else "",
        "" if math.isnan(shared["proxy"]) else f"C_proxy {shared['proxy']:.0f}",
        f"{timing} time",
        f"{shared['l2']} L2",
    ]
    return ", ".join(part for part in parts if part)
