"""The report as one self-contained HTML file."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gspn2bench.analysis.frame import frame
from gspn2bench.records.store import Run, read_profiles
from gspn2bench.report.files import write_own
from gspn2bench.report.formatting import script_json
from gspn2bench.report.html.controls import controls
from gspn2bench.report.html.data import payload
from gspn2bench.report.html.figures import sections
from gspn2bench.report.html.versus import against_first
from gspn2bench.report.summary import run_ids, summary, titles
from gspn2bench.report.tables import environment_table, failures_table

MARKER: Final = '<meta name="gspn2bench-runs" content="{}">'
"""Names the runs of a report, so only a report of the same runs is overwritten."""

ASSETS: Final = Path(__file__).parent / "assets"
SCRIPTS: Final = (
    *("formatting", "views", "theme", "bar_chart"),
    *("bar_figures", "sweep_figures", "roofline", "detail_figures"),
    *("tables", "grid", "renderer", "page"),
)
"""In order of dependence: a script uses only those before it."""


def render(runs: Sequence[Run]) -> str:
    """The report of one or several runs as one HTML page without external resources.

    Args:
        runs: at least one, with distinct ids; the others are compared with the first.

    Raises:
        UsageError: no run is given, two have the same id, or a profile of a run is damaged.
    """
    ids = run_ids(runs)
    table = frame(runs)
    profiles = [(run.record.run_id, each) for run in runs for each in read_profiles(run.path)]
    shown = sections(table, [profile for _, profile in profiles])
    comparisons = against_first(runs)
    data = payload(runs, table, profiles, shown, comparisons)
    plotly, script = _script_text(_plotly()), _script_text(_scripts())
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        marker=_marker(ids),
        policy=_policy(plotly, script),
        css=Markup(_asset("page.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        data=Markup(script_json(data)),
        title=titles(runs),
        summaries=[summary(run) for run in runs],
        controls=controls(table, ids),
        rungs=data["rungs"],
        sections=shown,
        comparisons=comparisons,
        failures=failures_table(table),
        environment=environment_table(runs),
    )


def write(runs: Sequence[Run], path: Path) -> None:
    """Write the report to a file; an earlier report of the same runs is replaced.

    Raises:
        UsageError: the file is not a report of these runs, or it can't be written.
    """
    ids = run_ids(runs)
    write_own(render(runs), path, _marker(ids), ids)


def _marker(ids: Sequence[str]) -> Markup:
    return Markup(MARKER).format(" ".join(ids))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _scripts() -> str:
    return '"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _script_text(script: str) -> str:
    """A script as the browser hashes it: with line feeds only."""
    return script.replace("\r\n", "\n").replace("\r", "\n")


def _policy(*scripts: str) -> str:
    """A content security policy that allows only these scripts and no network access."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
