"""Real exports of Nsight Systems 2023.4.4 (schema 3.7.2) from an H100, and faults planted in them.

``tests/data/nsys`` has three captures of ``gspn2bench profile`` and the two runs that were measured
on the same machine without a profiler.
"""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gspn2bench.errors import UsageError
from gspn2bench.profile import figures, runner
from gspn2bench.records.schema import ProfiledTrial
from gspn2bench.records.store import Run, read_run

DATA = Path(__file__).resolve().parents[1] / "data" / "nsys"
RUNS = {
    "graph-r01-fig3": "run-fig3",
    "graph-r07-fig3": "run-fig3",
    "eager-r01-quick": "run-quick",
}
"""The run of each export, by the stem of its file."""


def real(name: str) -> Path:
    """A real export, which must not be changed."""
    return DATA / f"{name}.sqlite"


def run_of(name: str) -> Run:
    """The run that an export was captured from."""
    return read_run(DATA / RUNS[name])


def changed(name: str, target: Path, statements: Sequence[str]) -> Path:
    """A copy of a real export after SQL statements that plant a fault."""
    shutil.copyfile(real(name), target)
    with closing(sqlite3.connect(target)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return target


def trial(file: Path, run: Run) -> ProfiledTrial:
    """The only trial of a file, as ``ingest`` would store it."""
    (result,) = figures.summarise(runner.read(file), file, run).trials
    return result


def outcome(file: Path, run: Run) -> ProfiledTrial | str:
    """The only trial of a file, or the message of the refusal."""
    try:
        return trial(file, run)
    except UsageError as error:
        return str(error)
