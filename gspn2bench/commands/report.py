"""``gspn2bench report``: runs as one HTML page, as pictures, or as Markdown."""

from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunNames
from gspn2bench.commands.output import echo, print_json
from gspn2bench.errors import UsageError


def report(
    runs: RunNames,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write.",
            show_default="reports/<run>.html; stdout with --markdown",
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the verdict and the tables as Markdown."),
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the figures as PNG files to this folder; needs Chromium or Chrome.",
        ),
    ] = None,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write an HTML report of one or several runs, and print its path.

    The page opens offline. Of several runs, the others are compared with the first.
    """
    from gspn2bench import report as pages
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.text import markdown as text

    if png and (markdown or output):
        raise UsageError("--png: can't be combined with --markdown or --output")
    if as_json and markdown and output is None:
        raise UsageError("--json: prints a path; with --markdown, give the file with --output")
    loaded = [read_run(find_run(name, results)) for name in runs]
    if markdown and output is None:
        echo(text.render(loaded), nl=False)
        return
    if png:
        files = pages.write_pictures(loaded, png)
    else:
        files = [output or default_path([run.record.run_id for run in loaded])]
        (text if markdown else pages).write(loaded, files[0])
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        # --quiet prints one line: the path of the page, or of the last picture
        for file in files[-1:] if quiet else files:
            echo(str(file))


def default_path(ids: list[str]) -> Path:
    """``reports/<run id>.html``; several ids are joined, and unsafe characters are replaced."""
    from gspn2bench.report.files import file_name

    return Path("reports") / f"{file_name(ids)}.html"
