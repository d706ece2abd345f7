"""Runs as GitHub Markdown: the conclusion, then a table per case and phase."""

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
from gspn2bench.report.summary import run_ids, summary, titles
from gspn2bench.report.tables import PUBLISHED_KEYS, Column, Table, table_of

MARKER: Final = "<!-- gspn2bench-runs: {} -->"
"""Names the runs of a report, so only a report of the same runs is overwritten."""

NOTES: Final = (
    "Graph time is the replay of a CUDA graph. Device time is the sum of kernel durations. Eager"
    " time is how long a Python caller waits. It includes the launch cost, which would favour fused"
    " kernels, so no speed-up is shown for it. A latency is shown only if the correctness gate is"
    " green. 1 GB is 10^9 bytes."
)
HOST_NOTE: Final = (
    "Host time is the time that Python spends issuing one call, without waiting for the GPU."
)
"""Added to the notes if a run has host times."""

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
    Column("host time, ms", "host_ms", number, optional=True),
    Column("speed-up", "speedup", speedup),
    Column("share of the possible gain", "gain_share", percent, optional=True),
    Column("base", "base_rung", optional=True),
    Column("model bytes / latency, GB/s", "gbps", number),
    Column("share of copy bandwidth", "copy_share", percent),
    Column("floor / latency", "floor_share", percent),
    Column("bound of the floor", "floor_bound", optional=True),
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
    """A name escaped for Markdown, on one line, inside and outside table cells."""
    text = re.sub(r"([\\`*_\[\]{}|~$#])", r"\\\1", printable(" ".join(name.split())))
    return html.escape(text, quote=False)


def render(runs: Sequence[Run]) -> str:
    """The report of one or several runs as Markdown.

    Args:
        runs: at least one, with distinct ids.

    Raises:
        UsageError: no run is given, or two have the same id.
    """
    ids = run_ids(runs)
    parts = [_marker(ids), f"# {escape(titles(runs))}"]
    for run in runs:
        head = summary(run)
        facts = [f"- {name}: {escape(value)}" for name, value in head.facts]
        parts += [f"## {escape(run.record.run_id)}", *conclusion_lines(run)]
        parts += ["Recorded:", "\n".join(facts), "Run it again:", f"    {printable(head.command)}"]
        parts += case_tables(run, "###", TIMINGS)
    timed = any(row.host_ms for run in runs for row in run.rows)
    return "\n\n".join([*parts, f"{NOTES} {HOST_NOTE}" if timed else NOTES]) + "\n"


def write(runs: Sequence[Run], path: Path) -> None:
    """Write the report to a file; an earlier report of the same runs is replaced.

    Raises:
        UsageError: the file is not a report of these runs, or it can't be written.
    """
    ids = run_ids(runs)
    write_own(render(runs), path, _marker(ids), ids)


def conclusion_lines(run: Run) -> list[str]:
    """The conclusion of a run: a bold headline and a list."""
    result = summary(run).conclusion
    details = [f"- {escape(detail)}" for detail in result.details]
    return [f"**{escape(result.headline)}**", *(["\n".join(details)] if details else [])]


def case_tables(run: Run, level: str, timings: Sequence[str]) -> list[str]:
    """A heading, a caption and a table per case and phase of a run.

    Published figures have their own columns, in the first row of each rung.

    Args:
        run: measured or simulated.
        level: of the headings, such as "###".
        timings: to show per case.
    """
    table, figures = frame([run]), published([run])
    table = table[table["timing"].isin(timings)]
    if table.empty:
        return ["The run has no rows."]
    keys = [key for key in PAIR if key != "timing"]
    parts = []
    for _, rows in table.groupby(keys, sort=False, dropna=False):
        parts += [f"{level} {_heading(rows)}", *_case(_ordered(rows), figures)]
    return parts


def table_text(table: Table) -> str:
    """A table in GitHub's pipe syntax, with escaped cells and headers."""
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [[escape(header) for header in table.headers], rules]
    lines += [[escape(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _case(rows: pd.DataFrame, figures: pd.DataFrame) -> list[str]:
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
    rows, added = _with_published(rows, figures)
    caption = "Simulated: no latency." if simulated else ""
    table = table_of(caption, (*columns, *added, *ENDING), rows)
    text = table_text(replace(table, caption=""))
    return [escape(table.caption.strip()), text] if table.caption else [text]


def _with_published(rows: pd.DataFrame, figures: pd.DataFrame) -> tuple[pd.DataFrame, list[Column]]:
    """The rows with a column per source of published figures, and these columns."""
    applied = figures.merge(rows[PUBLISHED_KEYS].drop_duplicates())
    first = ~rows["rung"].duplicated()
    columns: list[Column] = []
    for (machine, source), group in applied.groupby(
        ["published_machine", "published_source"], sort=False
    ):
        for unit, key in (("ms", "published_ms"), ("GB/s as the source counts", "published_gbps")):
            values = group.dropna(subset=[key]).groupby("rung")[key]
            if not values.ngroups:
                continue
            column = Column(
                f"published on {machine}, {unit} ({source})", f"published-{len(columns)}"
            )
            text = values.agg(lambda each: ", ".join(map(number, each.unique())))
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
