"""A run for a terminal of 80 columns: the conclusion, trends over swept axes, a table per case."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gspn2bench.analysis.frame import PAIR, QUOTED, TIMINGS, frame, rung_order
from gspn2bench.problem import CASE_PHASES, SHORT_PHASES
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import (
    count,
    number,
    percent,
    printable,
    scientific,
    size,
    speedup,
)
from gspn2bench.report.text.sparklines import Trend, sparkline, trends
from gspn2bench.report.verdict import conclusion


def render_terminal(run: Run) -> RenderableType:
    """The output of ``gspn2bench show``; names are never read as rich's markup."""
    result = conclusion(run)
    lines: list[RenderableType] = [
        Text(printable(run.record.run_id), style="dim"),
        Text(printable(result.headline), style="bold"),
        *(Text(f"- {printable(detail)}") for detail in result.details),
    ]
    table = frame([run])
    for trend in trends(table):
        lines += [Text(), *_trend(trend)]
    keys = [key for key in PAIR if key not in ("phase", "timing")]
    for _, rows in table.groupby(keys, sort=False):
        lines += [Text(), _heading(rows), _simulated(rows) if run.record.simulated else _real(rows)]
    return Group(*lines, *_failures(table))


def _trend(trend: Trend) -> list[RenderableType]:
    """A line per rung: throughput as blocks, and the ends of throughput, latency and speed-up."""
    over = " ".join(map(count, trend.values))
    top = f"a full block is {number(trend.top_gbps, 4)} GB/s"
    table = _table("rung", "phase", "trend", "GB/s", "ms", "speed-up")
    for rung, phase, line in trend.lines:
        compared = line["speedup"].where(line["rung"] != line["base_rung"])
        table.add_row(
            *_names({"rung": rung, "phase": phase}),
            sparkline(line["gbps"].tolist(), trend.top_gbps),
            _ends(line["gbps"]),
            _ends(line["latency_ms"]),
            _ends(compared, speedup) or "base",
        )
    heading = Text.assemble((f"over {trend.axis}", "bold"), f"  {over}")
    return [heading, Text(printable(f"{trend.where}; {top}")), table]


def _ends(values: pd.Series, form: Callable[[float], str] = number) -> str:
    """The first and the last value that are not missing: 102 → 3,562."""
    known = values.dropna()
    if known.empty:
        return ""
    return f"{form(known.iloc[0])} → {form(known.iloc[-1])}"


def _failures(table: pd.DataFrame) -> list[Text]:
    """The rows that are not ok, with reasons; timings with the same reason share a line."""
    bad = table[table["status"] != "ok"]
    bad = bad.drop_duplicates(["title", "rung", "phase", "status", "reason"])
    if bad.empty:
        return []
    lines = [Text(), Text("Not ok", style="bold")]
    for row in bad.to_dict("records"):
        reason = row["reason"] if isinstance(row["reason"], str) else "no reason recorded"
        line = f"{row['title']}, {row['rung']} {row['phase']}, {row['status']}: {reason}"
        if not math.isnan(row["extrapolated_ms"]):
            line += f"; extrapolated, not measured: {number(row['extrapolated_ms'])} ms"
        lines.append(Text(f"- {printable(line)}"))
    return lines


def _heading(rows: pd.DataFrame) -> Text:
    first = rows.iloc[0]
    where = "simulated" if first["simulated"] else f"{first['l2']} L2, {first['machine']}"
    return Text.assemble((printable(first["title"]), "bold"), printable(f"  {where}"))


def _real(rows: pd.DataFrame) -> Table:
    host = ["host ms"] if rows["host_ms"].notna().any() else []
    gain = ["of the gain"] if rows["gain_share"].notna().any() else []
    table = _table(
        *("rung", "phase", "time", "ms", "±", *host, "speed-up", *gain),
        *("GB/s", "floor", "launches", "status"),
    )
    for row in _records(rows):
        half = (row["latency_ms_high"] - row["latency_ms_low"]) / 2
        spread = half / row["latency_ms"]
        table.add_row(
            *_names(row, row["timing"]),
            number(row["latency_ms"]),
            percent(spread),
            *(number(row["host_ms"]) for _ in host),
            _speedup(row),
            *(_whole_percent(row["gain_share"]) for _ in gain),
            number(row["gbps"]),
            _whole_percent(row["floor_share"]),
            _launches(row),
            Text(row["status"] if not row["withheld"] else "no number"),
        )
    return table


def _simulated(rows: pd.DataFrame) -> Table:
    traced = ["traced"] if rows["bytes_traced"].notna().any() else []
    table = _table(
        *("rung", "phase", "gate error", "tolerance", "launches", "model", *traced, "status")
    )
    rows = rows.drop_duplicates(["rung", "phase", "direction", "status", "gate_error"])
    for row in _records(rows):
        table.add_row(
            *_names(row),
            scientific(row["gate_error"]),
            scientific(row["gate_tolerance"]),
            _launches(row),
            size(row["bytes_model"]),
            *(size(row["bytes_traced"]) for _ in traced),
            Text(row["status"]),
        )
    return table


def _whole_percent(share: float) -> str:
    """A share without decimals; nothing if it is missing."""
    return "" if math.isnan(share) else f"{100 * share:.0f} %"


def _speedup(row: dict[str, Any]) -> str:
    if math.isnan(row["speedup"]) or row["timing"] not in QUOTED:
        return ""
    return "base" if row["rung"] == row["base_rung"] else speedup(row["speedup"])


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        text = header in ("rung", "phase", "time", "trend", "status")
        folds = header in ("rung", "trend", "speed-up")  # their cells may be long
        justify: Literal["left", "right"] = "left" if text else "right"
        table.add_column(header, justify=justify, no_wrap=not folds, overflow="fold")
    return table


def _names(row: dict[str, Any], *more: str) -> list[Text]:
    phase = SHORT_PHASES[row["phase"]]
    return [Text(printable(name)) for name in (row["rung"], phase, *more)]


def _launches(row: dict[str, Any]) -> str:
    """The observed launches; both numbers if they differ from those expected."""
    expected, observed = row["launches_expected"], row["launches_observed"]
    if math.isnan(expected) or math.isnan(observed) or expected == observed:
        return count(observed)
    return f"{count(observed)}\N{NOT EQUAL TO}{count(expected)}"


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    lines = [{str(key): value for key, value in line.items()} for line in rows.to_dict("records")]
    return sorted(
        lines,
        key=lambda row: (
            CASE_PHASES.index(row["phase"]),
            TIMINGS.index(row["timing"]),
            rung_order(row["rung"]),
        ),
    )
