"""The page: runs in, one self-contained HTML file out."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gspn2bench.analyze import TIMINGS, frame, published
from gspn2bench.problem import PHASES
from gspn2bench.report import figures
from gspn2bench.report.figures import Chart
from gspn2bench.report.files import write_own
from gspn2bench.report.summary import run_ids, summary, titles
from gspn2bench.report.tables import environment_table, failures_table, rows_table
from gspn2bench.report.text import script_json
from gspn2bench.report.verdict import simulated_because
from gspn2bench.schema import L2State, RunRecord
from gspn2bench.store import Run

MARKER: Final = '<meta name="gspn2bench-runs" content="{}">'
"""Tells whose report a file is, so that no other file is overwritten."""


@dataclass(frozen=True)
class Panel:
    """Part of a section: charts, the first one open, or words where there is nothing to draw."""

    title: str
    charts: tuple[Chart, ...] = ()
    words: str = ""


def render(runs: Sequence[Run]) -> str:
    """The report of one or several runs as one HTML page that needs nothing else.

    Args:
        runs: at least one, each with an id of its own.

    Raises:
        UsageError: there is no run, or two have the same id.
        ValueError: a number to draw is NaN or infinite.
    """
    ids = run_ids(runs)
    table = frame(runs)
    beside = published(runs)
    plotly, script = _script_text(_plotly()), _script_text(_data("page.js"))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"script_json": lambda value: Markup(script_json(value))}
    return environment.get_template("page.html.j2").render(
        marker=_marker(ids),
        policy=_policy(plotly, script),
        css=Markup(_data("page.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        title=titles(runs),
        summaries=[summary(run) for run in runs],
        ladder=_panels(runs, table, lambda record, part: _ladder(record, part, beside)),
        launches=_panels(runs, table, _launches),
        traffic=_panels(runs, table, _traffic),
        failures=failures_table(table),
        rows=rows_table(table),
        environment=environment_table(runs),
    )


def write(runs: Sequence[Run], path: Path) -> None:
    """Render the report into a file; an earlier report of the same runs is replaced.

    Raises:
        UsageError: the file is something else, or cannot be written.
    """
    ids = run_ids(runs)
    write_own(render(runs), path, _marker(ids), ids)


Drawn = tuple[tuple[Chart, ...], str]
"""Charts, and the words for where there is none."""


def _panels(
    runs: Sequence[Run], table: pd.DataFrame, draw: Callable[[RunRecord, pd.DataFrame], Drawn]
) -> list[Panel]:
    """One panel for each run and phase; never two runs in one chart."""
    panels = []
    for run in runs:
        rows = table[table["run"] == run.record.run_id]
        name = f"{run.record.run_id}, " if len(runs) > 1 else ""
        simulated = ", simulated" if run.record.simulated else ""
        for phase in PHASES:
            part = rows[rows["phase"] == phase]
            if len(part):
                title = f"{name}{phase}{simulated}"
                panels.append(Panel(title, *draw(run.record, part)))
        if rows.empty:
            panels.append(Panel(f"{name}no rows{simulated}", words="The run holds no row."))
    return panels


def _ladder(record: RunRecord, rows: pd.DataFrame, beside: pd.DataFrame) -> Drawn:
    if record.simulated:
        return (), (
            f"No chart: {simulated_because(record)} The simulator runs the real kernels thread by"
            " thread; its own speed says nothing about a GPU."
        )
    views = [
        rows[(rows["timing"] == timing) & (rows["l2"] == l2)]
        for timing in TIMINGS
        for l2 in get_args(L2State)
    ]
    charts = [figures.ladder(view, beside) for view in views if len(view)]
    found = tuple(chart for chart in charts if chart)
    return found, "No chart: no row has a latency; the table of all rows says why."


def _launches(_: RunRecord, rows: pd.DataFrame) -> Drawn:
    chart = figures.launches(rows)
    return (chart,) if chart else (), "No chart: no row behind a green gate counted launches."


def _traffic(_: RunRecord, rows: pd.DataFrame) -> Drawn:
    chart = figures.traffic(rows)
    return (chart,) if chart else (), "No chart: no row behind a green gate has bytes."


def _marker(ids: Sequence[str]) -> Markup:
    return Markup(MARKER).format(" ".join(ids))


def _data(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _script_text(script: str) -> str:
    """A script as the browser will see it, for its hash: with bare line feeds."""
    return script.replace("\r\n", "\n").replace("\r", "\n")


def _policy(*scripts: str) -> str:
    """A content security policy: these scripts and no other, and nothing from any network."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
