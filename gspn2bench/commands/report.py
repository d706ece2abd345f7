"""``gspn2bench report``: recorded runs as one HTML page, or as Markdown."""

import re
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="A run's folder, name, prefix of one, or latest."),
    ],
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
    results: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("results"),
) -> None:
    """Write runs as one HTML page that opens offline, and print its path.

    With --markdown the same numbers are printed as text, or written where -o says.
    """
    from gspn2bench import report as room
    from gspn2bench.report import markdown as text
    from gspn2bench.store import find_run, read_run

    found = [read_run(find_run(name, results)) for name in runs]
    if markdown and output is None:
        typer.echo(text.render(found), nl=False)
        return
    path = output or default_path([run.record.run_id for run in found])
    (text if markdown else room).write(found, path)
    typer.echo(str(path))


def default_path(ids: list[str]) -> Path:
    """``reports/<run id>.html``; several ids are joined, what no file name should hold is cut."""
    name = "+".join(re.sub(r"[^\w.-]+", "_", run)[:80].strip(".") or "_" for run in ids[:2])
    more = f"+{len(ids) - 2}-more" if len(ids) > 2 else ""
    return Path("reports") / f"{name}{more}.html"
