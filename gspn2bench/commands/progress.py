"""A series of trials: the bar while it runs, and what is said of it in the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gspn2bench.commands.output import print_json

if TYPE_CHECKING:
    from gspn2bench.records.schema import Row


@dataclass(frozen=True)
class Ended:
    """How a series ended.

    Args:
        rows: of the trials that are done.
        exit_code: 130 interrupted, 3 where the run can't be written, else 0.
        why: the same in words; empty where every trial is done.
    """

    rows: "list[Row]"
    exit_code: int = 0
    why: str = ""


class RungDisplay:
    """Told whose turn it is, shows it beside the bar that ``follow`` draws."""

    def __init__(self) -> None:
        self.show: Callable[[str], None] = lambda _rung: None

    def __call__(self, rung: str) -> None:
        """A rung, by its id, is at it from now on."""
        self.show(rung)


def follow(
    steps: "Iterator[Sequence[Row]]",
    labels: Sequence[str],
    *,
    quiet: bool,
    turns: RungDisplay | None = None,
) -> Ended:
    """Do the trials under a progress bar on stderr.

    Args:
        steps: does a trial and gives its rows; has something to finish after the last.
        labels: what to show during each.
        quiet: show no bar.
        turns: will be told the rung that is at it, which is shown beside the label.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.table import Column

    rows: list[Row] = []
    words = TextColumn(
        "{task.description}",
        markup=False,
        table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
    )
    whose = TextColumn("{task.fields[rung]}", markup=False)
    share = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeLeft(), TextColumn("left"))
    with Progress(words, whose, *share, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("", total=len(labels), rung="")
        if turns is not None:
            turns.show = lambda rung: progress.update(bar, rung=rung)
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
    then: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say how the trials went, and print the run's path, or the sum as JSON.

    Args:
        ended: what ``follow`` gave.
        path: the run's folder.
        complaints: what is wrong with rows, a line each.
        resume: what to do where it ended early.
        then: what to do next; may be empty.
        quiet: of a run that went well, print the path alone.
        as_json: print run, path, rows by status and the exit code instead of the path.

    Raises:
        typer.Exit: the series ended early, a row is neither ok nor skipped, or none is ok.
    """
    counts = Counter(row.status for row in ended.rows)
    good = counts["ok"] and not set(counts) - {"ok", "skipped"}
    code = ended.exit_code or (0 if good else 3)
    for line in dict.fromkeys(complaints):
        typer.echo(line, err=True)
    if not quiet and counts:
        typer.echo(", ".join(f"{many} {status}" for status, many in counts.items()), err=True)
    if ended.why:
        typer.echo(f"{ended.why}; what is done is kept: {resume}", err=True)
    elif then and not quiet:
        typer.echo(then, err=True)
    if as_json:
        document = {"run": path.name, "path": str(path), "counts": counts, "exit_code": code}
        print_json(document)
    else:
        typer.echo(str(path))
    if code:
        raise typer.Exit(code)
