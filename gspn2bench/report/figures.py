"""The charts of a report, each with its legend and the table behind it, from DataFrames."""

import math
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from gspn2bench.analyze import PAIR, rung_order
from gspn2bench.report.bars import Bar, Figure, Group, Series, figure
from gspn2bench.report.tables import Column, Format, Table, table_of
from gspn2bench.report.text import TIMES, count, number, size

MAX_CASES: Final = 24
"""Cases drawn in one chart; the table of all rows has every one."""

PUBLISHED_KEYS: Final = ["run", "case", "phase", "dtype", "weights", "directions", "chunk"]


@dataclass(frozen=True)
class Chart:
    """A figure, what its bars are, and the same numbers as a table."""

    title: str
    """What the latencies are, or "" where there are none."""
    figure: Figure
    legend: tuple[Series, ...]
    table: Table
    note: str = ""


def ladder(view: pd.DataFrame, published: pd.DataFrame) -> Chart | None:
    """Latency of each rung with its 95 % interval, published figures beside it.

    Args:
        view: rows of one run, phase, timing and L2 state, from ``analyze.frame``.
        published: from ``analyze.published``.

    Returns:
        None where no row has a latency.
    """
    if view["latency_ms"].isna().all():
        return None
    first = view.iloc[0]
    ours = Series(
        "ours",
        f"measured: {first['machine']}, {first['timing']} time, {first['l2']} L2; "
        "median and 95 % interval",
    )
    sources = _sources(published)
    groups, lines = [], []
    for title, rows in _cases(view):
        figures = published.merge(rows[PUBLISHED_KEYS].drop_duplicates())
        bars = []
        for tick, row in _rungs(rows):
            bars.append(_latency_bar(ours, tick, row))
            line = row | {"title": title, "tick": tick}
            beside = _records(figures[figures["rung"] == row["rung"]])
            lines += [line | each for each in beside] or [line]
            for each in beside:
                if math.isnan(each["published_ms"]):
                    continue
                series = sources[each["published_machine"], each["published_source"]]
                text = f"{number(each['published_ms'])} ms"
                bars.append(Bar(series, "published", each["published_ms"], text))
        groups.append(Group(title, tuple(bars)))
    table = pd.DataFrame(lines, columns=[column.key for column in LADDER_COLUMNS])
    used = {bar.series for group in groups for bar in group.bars}
    floors = (Series("floor", "floor of the case"),) if (view["floor_ms"] > 0).any() else ()
    return Chart(
        f"{first['timing']} time, {first['l2']} L2",
        figure(groups, "latency, ms (log scale)"),
        (ours, *(series for series in sources.values() if series in used), *floors),
        table_of("Latency of each rung and the published figures.", LADDER_COLUMNS, table),
        " ".join(filter(None, (_cut(view), _rates(table)))),
    )


def launches(view: pd.DataFrame) -> Chart | None:
    """Kernel launches of one call, expected by formula and observed.

    Args:
        view: rows of one run and phase.

    Returns:
        None where no row behind a green gate counted any.
    """
    how = "counted in the simulator" if view["simulated"].any() else "observed by CUPTI"
    quantities = (
        Quantity("launches_expected", "expected", Series("expected", "expected by formula")),
        Quantity("launches_observed", "observed", Series("observed", how)),
    )
    axis = "launches of one call (log scale)"
    return _counts(view, quantities, count, axis=axis, tick_text=count, start=0.5)


def traffic(view: pd.DataFrame) -> Chart | None:
    """Global-memory bytes of one call: the model's, traced and hardware's where there are any.

    Args:
        view: rows of one run and phase.

    Returns:
        None where no row behind a green gate has bytes.
    """
    quantities = (
        Quantity("bytes_model", "model", Series("model", "model: inputs and outputs once each")),
        Quantity("bytes_traced", "traced", Series("traced", "traced in the simulator")),
        Quantity("bytes_dram", "DRAM", Series("dram", "DRAM, by hardware counters")),
    )
    axis = "bytes of one call (log scale)"
    return _counts(view, quantities, size, axis=axis, tick_text=_short_size)


@dataclass(frozen=True)
class Quantity:
    """A counted column: its tick in the chart and its series."""

    column: str
    tick: str
    series: Series


KEY_COLUMNS: Final = (Column("case", "title"), Column("rung", "tick"))
LADDER_COLUMNS: Final = (
    *KEY_COLUMNS,
    Column("status", "status"),
    Column("latency, ms", "latency_ms", number),
    Column("95 % low, ms", "latency_ms_low", number),
    Column("95 % high, ms", "latency_ms_high", number),
    Column(f"speed-up, {TIMES}", "speedup", number),
    Column("over rung", "base_rung"),
    Column("floor, ms", "floor_ms", number),
    Column("published, ms", "published_ms", number, optional=True),
    Column("published, GB/s as its source counts", "published_gbps", number, optional=True),
    Column("published on", "published_machine", optional=True),
    Column("source", "published_source", optional=True),
)


def _latency_bar(series: Series, tick: str, row: dict[str, Any]) -> Bar:
    if math.isnan(row["latency_ms"]):
        return Bar(series, tick, math.nan, row["withheld"] or row["status"])
    text = f"{number(row['latency_ms'])} ms"
    if row["base_rung"] != row["rung"]:
        text += f" · {number(row['speedup'])}{TIMES}"
    interval = (row["latency_ms_low"], row["latency_ms_high"])
    return Bar(series, tick, row["latency_ms"], text, *interval, row["floor_ms"])


def _counts(
    view: pd.DataFrame,
    quantities: tuple[Quantity, ...],
    form: Format,
    *,
    axis: str,
    tick_text: Format,
    start: float = math.inf,
) -> Chart | None:
    """A chart of counted columns, one bar each; equal counts of several timings are drawn once."""
    columns = [quantity.column for quantity in quantities]
    view = view[view["gate_green"]].dropna(subset=columns, how="all").copy()
    # counts do not depend on the timing, but one timing may know more of them than another
    by = ["title", "rung", "direction"]
    known = view.groupby(by)[columns]
    view[columns] = view[columns].fillna(
        known.transform("first").where(known.transform("nunique") == 1)
    )
    view = view.drop_duplicates([*by, *columns])
    if view.empty:
        return None
    present = tuple(q for q in quantities if view[q.column].notna().any())
    groups, lines = [], []
    for title, rows in _cases(view):
        bars = []
        for tick, row in _rungs(rows):
            lines.append(row | {"title": title, "tick": tick})
            for place, quantity in enumerate(present):
                value = row[quantity.column]
                first = row[present[0].column]
                if math.isnan(value):
                    continue
                text = form(value)
                if place and value > 0 and first > 0 and value != first:
                    text += f" · {number(value / first)}{TIMES}"
                bars.append(Bar(quantity.series, f"{tick} {quantity.tick}", value, text))
        groups.append(Group(title, tuple(bars)))
    shown = (*KEY_COLUMNS, *(Column(q.series.name, q.column, count) for q in present))
    return Chart(
        "",
        figure(groups, axis, tick_text, start),
        tuple(q.series for q in present),
        table_of(f"{axis.partition(' (')[0].capitalize()}.", shown, pd.DataFrame(lines)),
        _cut(view),
    )


def _short_size(value: float) -> str:
    return size(value, "{:g}".format)


def _cases(view: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cases to draw, each with its title: as recorded, at most ``MAX_CASES``."""
    keys = [key for key in PAIR if key not in ("timing", "l2")]
    groups = [rows for _, rows in view.groupby(keys, sort=False)]
    return [(str(rows.iloc[0]["title"]), rows) for rows in groups[:MAX_CASES]]


def _cut(view: pd.DataFrame) -> str:
    cases = view["title"].nunique()
    if cases <= MAX_CASES:
        return ""
    return f"The first {MAX_CASES} of {cases} cases; the table of all rows has every one."


def _rates(table: pd.DataFrame) -> str:
    if table["published_gbps"].isna().all():
        return ""
    return (
        "Published GB/s stand in the table only: they are a rate as the source counts it,"
        " not model bytes over latency."
    )


def _rungs(rows: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """The rows in the order of the ladder, each with its tick: the rung, told apart if need be."""
    records = sorted(_records(rows), key=lambda row: rung_order(row["rung"]))
    several = rows["rung"].duplicated(keep=False).any()
    return [
        (f"{row['rung']} {row['direction']}" if several else str(row["rung"]), row)
        for row in records
    ]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]


def _sources(published: pd.DataFrame) -> dict[tuple[str, str], Series]:
    """A series for each machine and source; beyond four, patterns repeat and names tell."""
    pairs = published[["published_machine", "published_source"]].drop_duplicates()
    return {
        (machine, source): Series(f"published-{place % 4}", f"published: {machine}; {source}")
        for place, (machine, source) in enumerate(pairs.itertuples(index=False, name=None))
    }
