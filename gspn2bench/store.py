"""Run folders: results/<scenario>-<utc time>-<id>/ with run.json and rows.jsonl.

A row is flushed to disk as it ends, so that a crash loses no finished row. Nothing is overwritten.
"""

import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from gspn2bench.errors import UsageError, unknown
from gspn2bench.schema import SCHEMA_VERSION, Row, RunRecord

RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"


@dataclass(frozen=True)
class Run:
    """A recorded run, read back."""

    path: Path
    record: RunRecord
    rows: tuple[Row, ...]


def utc_now() -> str:
    """The time now, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunWriter:
    """Writes one run; a context manager that closes the files.

    Args:
        path: the run's own folder, as ``create_folder`` made it.
        record: what goes into run.json at once.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record = record
        self._write_record()
        self._rows = (path / ROWS_FILE).open("x", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()

    def add(self, row: Row) -> None:
        """Append a row and hand it to the disk before returning."""
        self._rows.write(row.model_dump_json() + "\n")
        self._rows.flush()
        os.fsync(self._rows.fileno())

    def update(self, **changes: object) -> None:
        """Change fields of run.json; the file is replaced whole, so that it is never torn."""
        merged = self.record.model_dump() | changes
        self.record = RunRecord.model_validate(merged)
        self._write_record()

    def _write_record(self) -> None:
        draft = self.path / (RUN_FILE + ".new")
        draft.write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(self.path / RUN_FILE)


def create_folder(results: Path, scenario: str) -> Path:
    """Make a new run folder, ``results/<scenario>-<utc time>-<id>``.

    Raises:
        UsageError: ``results`` cannot be made or written; nothing has been run by then.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = results / f"{scenario}-{stamp}-{secrets.token_hex(3)}"
    try:
        path.mkdir(parents=True, exist_ok=False)
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--results: {results} cannot be written: {error.strerror}") from error
    return path


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        UsageError: not a run folder, written by another schema version, or damaged.
    """
    try:
        text = (path / RUN_FILE).read_text(encoding="utf-8")
        lines = (path / ROWS_FILE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"run: {path} is no run folder: {error.filename} can't be read") from error
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"run: {path / RUN_FILE} is not JSON of a run: {error}") from error
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"run: {path / RUN_FILE} has schema version {version}, this is {SCHEMA_VERSION}"
        )
    try:
        record = RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(f"run: {path / RUN_FILE}: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            raise UsageError(f"run: {path / ROWS_FILE} line {number}: {error}") from error
    return Run(path, record, tuple(rows))


def find_run(name: str, results: Path) -> Path:
    """The folder of a run given as a path, a run's name, a prefix of one, or "latest".

    Raises:
        UsageError: none or several match.
    """
    given = Path(name)
    if (given / RUN_FILE).is_file():
        return given
    runs = {p.parent.name: p.parent for p in results.glob(f"*/{RUN_FILE}")}
    if name in runs:
        return runs[name]
    if name == "latest" and runs:
        return max(runs.values(), key=lambda p: (p / RUN_FILE).stat().st_mtime)
    matches = sorted(run for run in runs if run.startswith(name))
    if len(matches) == 1:
        return runs[matches[0]]
    if matches:
        raise UsageError(f"run: {name!r} begins {', '.join(matches)}; give more of one")
    if not runs:
        raise UsageError(f"run: {name!r} is no run folder, and {results} holds no run")
    raise unknown("run", name, runs)
