"""A run for a terminal of 80 columns: the conclusion, trends over swept axes, a table per case."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
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
from gspn2bench.report.text.plain_table import Column, Line, PlainTable
from gspn2bench.report.text.sparklines import Trend, sparkline, trends
from gspn2bench.report.verdict import conclusion

Record = dict[str, Any]
"""A row of the table."""
Records = list[Record]


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
    groups: dict[tuple[object, ...], Records] = {}
    for record in _records(table):
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    for records in groups.values():
        rows = sorted(records, key=_order)
        body = _simulated(rows) if run.record.simulated else _real(rows)
        lines += [Line(), _heading(records[0]), body]
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


def _heading(first: Record) -> Line:
    where = "simulated" if first["simulated"] else f"{first['l2']} L2, {first['machine']}"
    return Line(((printable(first["title"]), "bold"), printable(f"  {where}")))


def _real(rows: Records) -> PlainTable:
    host = ["host ms"] if not all(math.isnan(row["host_ms"]) for row in rows) else []
    gain = ["of the gain"] if not all(math.isnan(row["gain_share"]) for row in rows) else []
    table = _table(
        *("rung", "phase", "time", "ms", "±", *host, "speed-up", *gain),
        *("GB/s", "floor", "launches", "status"),
    )
    for row in rows:
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
            row["status"] if not row["withheld"] else "no number",
        )
    return table


def _simulated(rows: Records) -> PlainTable:
    traced = ["traced"] if not all(math.isnan(row["bytes_traced"]) for row in rows) else []
    table = _table(
        *("rung", "phase", "gate error", "tolerance", "launches", "model", *traced, "status")
    )
    shown: dict[tuple[object, ...], Record] = {}
    for row in rows:
        error = None if math.isnan(row["gate_error"]) else row["gate_error"]
        shown.setdefault((row["rung"], row["phase"], row["direction"], row["status"], error), row)
    for row in shown.values():
        table.add_row(
            *_names(row),
            scientific(row["gate_error"]),
            scientific(row["gate_tolerance"]),
            _launches(row),
            size(row["bytes_model"]),
            *(size(row["bytes_traced"]) for _ in traced),
            row["status"],
        )
    return table


def _whole_percent(share: float) -> str:
    """A share without decimals; nothing if it is missing."""
    return "" if math.isnan(share) else f"{100 * share:.0f} %"


def _speedup(row: dict[str, Any]) -> str:
    if math.isnan(row["speedup"]) or row["timing"] not in QUOTED:
        return ""
    return "base" if row["rung"] == row["base_rung"] else speedup(row["speedup"])


def _table(*headers: str) -> PlainTable:
    texts = ("rung", "phase", "time", "trend", "status")
    long = ("rung", "trend", "speed-up")
    return PlainTable([Column(name, name not in texts, name in long) for name in headers])


def _names(row: dict[str, Any], *more: str) -> list[str]:
    return [printable(name) for name in (row["rung"], SHORT_PHASES[row["phase"]], *more)]


def _launches(row: dict[str, Any]) -> str:
    """The observed launches; both numbers if they differ from those expected."""
    expected, observed = row["launches_expected"], row["launches_observed"]
    if math.isnan(expected) or math.isnan(observed) or expected == observed:
        return count(observed)
    return f"{count(observed)}\N{NOT EQUAL TO}{count(expected)}"


def _records(table: pd.DataFrame) -> Records:
    """The rows as dictionaries; columns are read one by one, which is much faster than by row."""
    columns = {str(name): values.tolist() for name, values in table.items()}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _order(row: Record) -> tuple[object, ...]:
    return (
        CASE_PHASES.index(row["phase"]),
        TIMINGS.index(row["timing"]),
        rung_order(row["rung"]),
    )
