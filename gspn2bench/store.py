"""Run folders: results/<scenario>-<utc time>-<id>/ with run.json and rows.jsonl.

A row is flushed to disk as it ends, so that a crash loses no finished row. Nothing is overwritten.
"""

import fcntl
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
from gspn2bench.schema import SCHEMA_VERSION, Profile, Row, RunRecord

RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"


@dataclass(frozen=True)
class Run:
    """A recorded run, read back.

    Args:
        path: its folder.
        record: run.json.
        rows: rows.jsonl.
        torn: whether the last line was cut short, and left out here.
    """

    path: Path
    record: RunRecord
    rows: tuple[Row, ...]
    torn: bool = False


def utc_now() -> str:
    """The time now, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunWriter:
    """Writes one run; a context manager that closes the files.

    While it is open no other writer can open the same run.

    Args:
        path: the run's own folder, as ``create_folder`` made it, or as a run left it.
        record: what goes into run.json at once.
        resume: add to the rows that are there already.

    Raises:
        UsageError: another process is writing this run.
    """

    def __init__(self, path: Path, record: RunRecord, *, resume: bool = False) -> None:
        self.path = path
        self.record = record
        self._rows = (path / ROWS_FILE).open("a" if resume else "x", encoding="utf-8")
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._rows.close()
            raise UsageError(f"run: {path} is being written by another process") from error
        self._write_record()

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
        recorded = (path / ROWS_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"run: {path} is no run folder: {error.filename} can't be read") from error
    lines, whole = recorded.splitlines(), recorded.endswith("\n")
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
            if number == len(lines) and not whole:
                break  # torn: the writer was stopped in mid-line, and the row was never given out
            raise UsageError(f"run: {path / ROWS_FILE} line {number}: {error}") from error
    return Run(path, record, tuple(rows), torn=bool(lines) and len(rows) < len(lines))


def set_torn_aside(run: Run) -> Path | None:
    """Move a torn last line to a file of its own, so that rows can be added again.

    Returns:
        That file, or None where no line is torn.
    """
    if not run.torn:
        return None
    rows = run.path / ROWS_FILE
    *good, torn = rows.read_bytes().splitlines(keepends=True)
    aside = run.path / f"{ROWS_FILE}.torn-{secrets.token_hex(3)}"
    aside.write_bytes(torn)
    # in place: a writer may hold the file open already
    os.truncate(rows, sum(map(len, good)))
    return aside


def add_profile(path: Path, profile: Profile) -> Path:
    """Add a profile to the run folder at ``path``.

    Returns:
        Its file, profile-<tool>-<id>.json.

    Raises:
        UsageError: the run has this profile already, or its folder can't be written.
    """
    file = path / f"profile-{profile.tool}-{profile.sha256[:12]}.json"
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(profile.model_dump_json(indent=1) + "\n")
    except FileExistsError as error:
        raise UsageError(f"profile: {profile.file} is in the run already: {file}") from error
    except OSError as error:
        raise UsageError(f"profile: {file} cannot be written: {error.strerror}") from error
    return file


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """The profiles of the run folder at ``path``, by the name of their files.

    Raises:
        UsageError: one is damaged.
    """
    found = []
    for file in sorted(path.glob("profile-*.json")):
        try:
            found.append(Profile.model_validate_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UsageError(f"profile: {file}: {error}") from error
    return tuple(found)


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
