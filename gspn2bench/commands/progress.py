"""A series of trials: the progress bar while it runs, and the summary at its end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gspn2bench.commands.output import echo, print_json

if TYPE_CHECKING:
    from gspn2bench.records.schema import Row


@dataclass(frozen=True)
class Ended:
    """How a series ended.

    Args:
        rows: of the finished trials.
        exit_code: 130 if interrupted, 3 if the run can't be written, else 0.
        why: the same in words; empty if every trial is finished.
    """

    rows: "list[Row]"
    exit_code: int = 0
    why: str = ""


class RungDisplay:
    """Shows the running rung beside the bar that ``follow`` draws."""

    def __init__(self) -> None:
        self.show: Callable[[str], None] = lambda _rung: None

    def __call__(self, rung: str) -> None:
        """Show a rung, by its id."""
        self.show(rung)


def follow(
    steps: "Iterator[Sequence[Row]]",
    labels: Sequence[str],
    *,
    quiet: bool,
    display: RungDisplay | None = None,
) -> Ended:
    """Run the trials under a progress bar on stderr.

    Args:
        steps: runs one trial per step and yields its rows; finishes the run after the last.
        labels: text beside the bar, one per trial.
        quiet: show no bar.
        display: shows the running rung beside the label.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.table import Column

    rows: list[Row] = []
    label_column = TextColumn(
        "{task.description}",
        markup=False,
        table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
    )
    rung_column = TextColumn("{task.fields[rung]}", markup=False)
    bar_columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeLeft(), TextColumn("left"))
    columns = (label_column, rung_column, *bar_columns)
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("", total=len(labels), rung="")
        if display is not None:
            display.show = lambda rung: progress.update(bar, rung=rung)
        try:
            for finished, label in enumerate(labels):
                progress.update(bar, completed=finished, description=label)
                rows += next(steps)
            next(steps, None)
        except KeyboardInterrupt:
            return Ended(rows, 130, "interrupted")
        except OSError as error:
            return Ended(rows, 3, f"the run can't be written: {error.strerror}")
        progress.update(bar, completed=len(labels), description="done", rung="")
    return Ended(rows)


def conclude(
    ended: Ended,
    path: Path,
    complaints: Iterable[str],
    *,
    resume: str,
    hint: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Summarise a series on stderr, and print the run's path or a JSON document on stdout.

    Args:
        ended: as ``follow`` returned it.
        path: the run's folder.
        complaints: problems of rows, one line each; equal ones are printed once.
        resume: command that completes a series that ended early.
        hint: what to do next; may be empty.
        quiet: print only the path if the run went well.
        as_json: print run, path, rows by status and exit code instead of the path.

    Raises:
        typer.Exit: the series ended early, a row is neither ok nor skipped, or none is ok.
    """
    counts = Counter(row.status for row in ended.rows)
    good = counts["ok"] and not set(counts) - {"ok", "skipped"}
    code = ended.exit_code or (0 if good else 3)
    for line in dict.fromkeys(complaints):
        echo(line, err=True)
    if not quiet and counts:
        echo(", ".join(f"{many} {status}" for status, many in counts.items()), err=True)
    if ended.why:
        echo(f"{ended.why}; finished rows are kept; resume: {resume}", err=True)
    elif hint and not quiet:
        echo(hint, err=True)
    if as_json:
        document = {"run": path.name, "path": str(path), "counts": counts, "exit_code": code}
        print_json(document)
    else:
        echo(str(path))
    if code:
        raise typer.Exit(code)
