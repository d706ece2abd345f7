"""``gspn2bench report``: recorded runs as one HTML page, as pictures, or as Markdown."""

from pathlib import Path
from typing import Annotated

import typer

from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet, RunNames
from gspn2bench.commands.output import print_json
from gspn2bench.errors import UsageError


def report(
    runs: RunNames,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write.",
            show_default="reports/<run>.html; Markdown is printed",
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The verdict and the tables as GitHub Markdown.")
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The figures as PNG files in this folder; needs Chromium or Chrome."
        ),
    ] = None,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write runs as one HTML page that opens offline, and print its path.

    Of several runs the first is the base that the others are compared with. With --markdown
    the same numbers are printed as text, or written where -o says; with --png the page's
    figures are written as pictures.
    """
    from gspn2bench import report as room
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.text import markdown as text

    if png and (markdown or output):
        raise UsageError(f"--png: writes pictures into {png}; leave out --markdown and -o")
    if as_json and markdown and output is None:
        raise UsageError("--json: prints the path of a file; with --markdown give it with -o")
    found = [read_run(find_run(name, results)) for name in runs]
    if markdown and output is None:
        typer.echo(text.render(found), nl=False)
        return
    if png:
        files = room.write_pictures(found, png)
    else:
        files = [output or default_path([run.record.run_id for run in found])]
        (text if markdown else room).write(found, files[0])
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        # --quiet asks for the last line: the path of the page, or of the last picture
        for file in files[-1:] if quiet else files:
            typer.echo(str(file))


def default_path(ids: list[str]) -> Path:
    """``reports/<run id>.html``; several ids are joined, what no file name should hold is cut."""
    from gspn2bench.report.files import file_name

    return Path("reports") / f"{file_name(ids)}.html"
