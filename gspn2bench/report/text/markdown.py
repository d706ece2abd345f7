"""Runs as GitHub Markdown: the verdict, then a table for each case and pass."""

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from gspn2bench.analysis.frame import PAIR, QUOTED, TIMINGS, frame, published, rung_order
from gspn2bench.records.store import Run
from gspn2bench.report.files import write_own
from gspn2bench.report.formatting import count, number, percent, printable, scientific, speedup
from gspn2bench.report.html.figures import PUBLISHED_KEYS
from gspn2bench.report.summary import run_ids, summary, titles
from gspn2bench.report.tables import Column, Table, table_of

MARKER: Final = "<!-- gspn2bench-runs: {} -->"
"""Tells whose report a file is, so that no other file is overwritten."""

NOTES: Final = (
    "Graph time is a CUDA-graph replay, device time the sum of kernel durations, eager time what a"
    " Python caller waits. Eager time has no speed-up here: it holds the cost of launching, which"
    " would flatter a fused kernel. A latency is shown only behind a green correctness gate."
    " 1 GB is 10^9 bytes."
)

NAMES: Final = (
    Column("rung", "rung"),
    Column("timing", "timing", folded=True),
    Column("direction", "direction", folded=True),
)
LAUNCHES: Final = (
    Column("launches expected", "launches_expected", count),
    Column("launches observed", "launches_observed", count),
)
ENDING: Final = (
    Column("status", "status"),
    Column("reason", "reason", optional=True),
    Column("extrapolated, not measured, ms", "extrapolated_ms", number, optional=True),
)

MEASURED: Final = (
    *NAMES,
    Column("latency, ms", "latency_ms", number),
    Column("95 % interval, ms", "interval"),
    Column("speed-up", "speedup", speedup),
    Column("base", "base_rung", optional=True),
    Column("model bytes / latency, GB/s", "gbps", number),
    Column("of copy bandwidth", "copy_share", percent),
    Column("floor / latency", "floor_share", percent),
    *LAUNCHES,
)
SIMULATED: Final = (
    *(name for name in NAMES if name.key != "timing"),
    Column("gate error, relative", "gate_error", scientific),
    Column("gate tolerance, relative", "gate_tolerance", scientific),
    *LAUNCHES,
    Column("model, bytes", "bytes_model", count),
    Column("traced, bytes", "bytes_traced", count, optional=True),
)


def escape(name: str) -> str:
    """A name as Markdown that shows it and does nothing: on one line, in a table cell or out."""
    text = re.sub(r"([\\`*_\[\]{}|~$#])", r"\\\1", printable(" ".join(name.split())))
    return html.escape(text, quote=False)


def render(runs: Sequence[Run]) -> str:
    """The report of one or several runs as Markdown.

    Args:
        runs: at least one, each with an id of its own.

    Raises:
        UsageError: there is no run, or two have the same id.
    """
    ids = run_ids(runs)
    parts = [_marker(ids), f"# {escape(titles(runs))}"]
    for run in runs:
        said = summary(run)
        facts = [f"- {name}: {escape(value)}" for name, value in said.facts]
        parts += [f"## {escape(run.record.run_id)}", *verdict_lines(run)]
        parts += ["Recorded:", "\n".join(facts), "Run it again:", f"    {printable(said.command)}"]
        parts += case_tables(run, "###", TIMINGS)
    return "\n\n".join([*parts, NOTES]) + "\n"


def write(runs: Sequence[Run], path: Path) -> None:
    """Render the report into a file; an earlier report of the same runs is replaced.

    Raises:
        UsageError: the file is something else, or cannot be written.
    """
    ids = run_ids(runs)
    write_own(render(runs), path, _marker(ids), ids)


def verdict_lines(run: Run) -> list[str]:
    """The verdict on a run: a bold headline and a list."""
    said = summary(run).verdict
    details = [f"- {escape(detail)}" for detail in said.details]
    return [f"**{escape(said.headline)}**", *(["\n".join(details)] if details else [])]


def case_tables(run: Run, level: str, timings: Sequence[str]) -> list[str]:
    """A heading, a table and its caption for each case and phase of a run.

    Published figures stand in columns of their own, once for a rung, in its first row.

    Args:
        run: measured or simulated.
        level: of the headings: "###".
        timings: to show, of each case.
    """
    table, beside = frame([run]), published([run])
    table = table[table["timing"].isin(timings)]
    if table.empty:
        return ["There is no row."]
    keys = [key for key in PAIR if key != "timing"]
    parts = []
    for _, rows in table.groupby(keys, sort=False, dropna=False):
        parts += [f"{level} {_heading(rows)}", *_case(_ordered(rows), beside)]
    return parts


def table_text(table: Table) -> str:
    """A table in GitHub's pipes; cells and headers are escaped."""
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [[escape(header) for header in table.headers], rules]
    lines += [[escape(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _case(rows: pd.DataFrame, beside: pd.DataFrame) -> list[str]:
    simulated = rows["simulated"].all()
    columns = SIMULATED if simulated else MEASURED
    if simulated:
        rows = rows.drop_duplicates(["rung", "direction", "status", "reason"])
    quoted = rows["timing"].isin(QUOTED)
    timed = rows["latency_ms_low"].notna() & rows["latency_ms_high"].notna()
    low, high = rows["latency_ms_low"].map(number), rows["latency_ms_high"].map(number)
    rows = rows.assign(
        speedup=rows["speedup"].where(quoted),
        base_rung=rows["base_rung"].where(quoted),
        interval=(low + " to " + high).where(timed),
        reason=rows["reason"].where(rows["withheld"].isin(["", "simulated"]), rows["withheld"]),
    )
    rows, more = _with_published(rows, beside)
    caption = "Simulated: no latency." if simulated else ""
    made = table_of(caption, (*columns, *more, *ENDING), rows)
    text = table_text(replace(made, caption=""))
    return [escape(made.caption.strip()), text] if made.caption else [text]


def _with_published(rows: pd.DataFrame, beside: pd.DataFrame) -> tuple[pd.DataFrame, list[Column]]:
    """The rows with a column for each source of published figures, and those columns."""
    found = beside.merge(rows[PUBLISHED_KEYS].drop_duplicates())
    first = ~rows["rung"].duplicated()
    columns: list[Column] = []
    for (machine, source), figures in found.groupby(
        ["published_machine", "published_source"], sort=False
    ):
        for unit, key in (("ms", "published_ms"), ("GB/s as there counted", "published_gbps")):
            given = figures.dropna(subset=[key]).groupby("rung")[key]
            if not given.ngroups:
                continue
            column = Column(f"published on {machine}, {unit} ({source})", f"beside-{len(columns)}")
            text = given.agg(lambda values: ", ".join(number(value) for value in values.unique()))
            rows = rows.assign(**{column.key: rows["rung"].map(text).where(first)})
            columns.append(column)
    return rows, columns


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    keys = [
        (TIMINGS.index(timing), rung_order(rung))
        for timing, rung in zip(rows["timing"], rows["rung"], strict=True)
    ]
    return rows.iloc[sorted(range(len(keys)), key=keys.__getitem__)]


def _heading(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    where = "simulated" if first["simulated"] else f"{first['l2']} L2"
    return escape(f"{first['title']}, {first['phase']}, {where}")


def _marker(ids: Sequence[str]) -> str:
    return MARKER.format(html.escape(printable(" ".join(ids))))
