"""Run folders: results/<scenario>-<utc time>-<id>/ with run.json and rows.jsonl.

Each row is flushed to disk when it is finished, so a crash loses none. Nothing is overwritten.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from pydantic import ValidationError

from gspn2bench.errors import UsageError, check_utf8, unknown
from gspn2bench.records.schema import (
    SCHEMA_VERSION,
    Profile,
    Row,
    RunRecord,
    check_version,
    upgrade,
)

RUN_FILE: Final = "run.json"
ROWS_FILE: Final = "rows.jsonl"
ROW_BEGINS: Final = b'{"scenario":'
MAX_BYTES: Final = 2**29
"""Largest rows.jsonl that is read: about 300,000 rows, enough for 10,000 cases on ten rungs."""


@dataclass(frozen=True)
class Run:
    """A recorded run, read back.

    Args:
        path: its folder.
        record: run.json.
        rows: rows.jsonl.
        torn: whether the last line is incomplete; it is not in ``rows``.
    """

    path: Path
    record: RunRecord
    rows: tuple[Row, ...]
    torn: bool = False


def utc_now() -> str:
    """The current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunWriter:
    """Writes one run; a context manager that closes the files.

    While it is open, no other writer can open the same run.

    Args:
        path: the run's folder: a new one from ``create_folder``, or that of a run to resume.
        record: the contents of run.json, written at once.
        resume: whether to append to existing rows.

    Raises:
        UsageError: another process is writing this run, the run has an older schema version, or
            its folder can't be written.
    """

    def __init__(self, path: Path, record: RunRecord, *, resume: bool = False) -> None:
        self.path = path
        self.record = record
        if resume and _version(path) != SCHEMA_VERSION:
            raise UsageError(f"run: {path} has an older schema version and can only be read")
        flags = os.O_CREAT if resume else os.O_CREAT | os.O_EXCL
        with _writing(path):
            self._rows = os.open(path / ROWS_FILE, os.O_WRONLY | os.O_APPEND | flags, 0o666)
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._rows)
            raise UsageError(f"run: {path} is being written by another process") from error
        with _writing(path):
            self._write_record()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._rows)

    def add(self, row: Row) -> None:
        """Append a row, and flush it to disk before returning.

        Raises:
            OSError: the row can't be written; an incomplete last line may remain.
        """
        line = (row.model_dump_json() + "\n").encode()
        while line:
            line = line[os.write(self._rows, line) :]
        os.fsync(self._rows)

    def update(self, **changes: object) -> None:
        """Change fields of run.json; the file is replaced as a whole and never incomplete."""
        merged = self.record.model_dump() | changes
        self.record = RunRecord.model_validate(merged)
        self._write_record()

    def _write_record(self) -> None:
        draft = self.path / (RUN_FILE + ".new")
        draft.write_text(self.record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(self.path / RUN_FILE)


def create_folder(results: Path, scenario: str) -> Path:
    """Create a run folder, ``results/<scenario>-<utc time>-<id>``.

    Raises:
        UsageError: ``results`` can't be created or written, or its path is not UTF-8.
    """
    check_utf8("--results", str(results))
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
    """Read a run folder; a run of an older schema version is migrated.

    Raises:
        UsageError: ``path`` is not a run folder, or the run is too large, damaged, or written by
            a newer gspn2bench.
    """
    version = _version(path)
    try:
        record = upgrade(RunRecord, _text(path), version)
    except ValidationError as error:
        raise UsageError(f"run: {path / RUN_FILE}: {_first(error)}") from error
    file = path / ROWS_FILE
    rows: list[Row] = []
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise UsageError(f"run: {file} is {size:,} bytes, above {MAX_BYTES:,}")
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    rows.append(upgrade(Row, line, version))
                except ValidationError as error:
                    if _torn(line):
                        return Run(path, record, tuple(rows), torn=True)
                    raise UsageError(f"run: {file} line {number}: {_first(error)}") from error
    except OSError as error:
        raise UsageError(f"run: {file} can't be read: {error.strerror}") from error
    return Run(path, record, tuple(rows))


def set_torn_aside(run: Run) -> Path | None:
    """Move an incomplete last line to a separate file, so rows can be added again.

    Returns:
        That file, or None if no line is torn.
    """
    rows = run.path / ROWS_FILE
    with rows.open("rb+") as file:  # in place: a writer may hold the file open already
        size = file.seek(0, os.SEEK_END)
        if not run.torn:
            if size and _last(file, 1) != b"\n":  # all but the end of the line was written
                file.write(b"\n")
            return None
        torn = _last(file, size).splitlines(keepends=True)[-1]
        aside = run.path / f"{ROWS_FILE}.torn-{secrets.token_hex(3)}"
        aside.write_bytes(torn)
        file.truncate(size - len(torn))
    return aside


def add_profile(path: Path, profile: Profile) -> Path:
    """Add a profile to the run folder at ``path``.

    Returns:
        Its file, profile-<tool>-<id>.json; the id is of the content.

    Raises:
        UsageError: the run already has this profile, from this file or a different one; or one of
            its profiles is damaged, or its folder can't be written.
    """
    content = profile.content
    for other, stored in _profiles(path):
        if stored.content == content or stored.sha256 == profile.sha256:
            raise UsageError(
                f"profile: {profile.file} is already in the run, from {stored.file}: {other}"
            )
    file = path / f"profile-{profile.tool}-{content[:12]}.json"
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(profile.model_dump_json(indent=1) + "\n")
    except FileExistsError as error:
        raise UsageError(f"profile: {profile.file} is already in the run, as {file}") from error
    except OSError as error:
        raise UsageError(f"profile: {file} cannot be written: {error.strerror}") from error
    return file


def read_profiles(path: Path) -> tuple[Profile, ...]:
    """The profiles of the run folder at ``path``, in the order of their file names.

    Raises:
        UsageError: one is damaged.
    """
    return tuple(profile for _, profile in _profiles(path))


def _profiles(path: Path) -> Iterator[tuple[Path, Profile]]:
    for file in sorted(path.glob("profile-*.json")):
        try:
            text = file.read_text(encoding="utf-8")
            version = check_version(json.loads(text).get("schema_version"))
            profile = upgrade(Profile, text, version)
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"profile: {file}: {error}") from error
        yield file, profile


def find_run(name: str, results: Path) -> Path:
    """The folder of a run.

    Args:
        name: a path, the run's name, a unique prefix of it, or "latest".
        results: folder that contains the runs.

    Raises:
        UsageError: no run matches, or several do.
    """
    path = Path(name)
    if (path / RUN_FILE).is_file():
        return path
    runs = {p.parent.name: p.parent for p in results.glob(f"*/{RUN_FILE}")}
    if name in runs:
        return runs[name]
    if name == "latest" and runs:
        return max(runs.values(), key=_age)
    matches = sorted(run for run in runs if run.startswith(name))
    if len(matches) == 1:
        return runs[matches[0]]
    if matches:
        raise UsageError(f"run: {name!r} matches {', '.join(matches)}; give a longer prefix")
    if not runs:
        raise UsageError(f"run: {name!r} is not a run folder, and {results} contains no run")
    raise unknown("run", name, runs)


def _age(path: Path) -> tuple[str, float]:
    """Sort key of runs: the time in the name, which a git clone keeps, then that of the file."""
    begun = re.search(r"\d{8}T\d{6}Z", path.name)
    return (begun[0] if begun else "", (path / RUN_FILE).stat().st_mtime)


def _text(path: Path) -> str:
    try:
        return (path / RUN_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(
            f"run: {path} is not a run folder: {error.filename} can't be read"
        ) from error


def _version(path: Path) -> int:
    """The schema version of a run."""
    file = path / RUN_FILE
    try:
        version = json.loads(_text(path)).get("schema_version")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"run: {file} is not the JSON of a run: {error}") from error
    try:
        return check_version(version)
    except ValueError as error:
        raise UsageError(f"run: {file} {error}") from error


def _torn(line: bytes) -> bool:
    """Whether a line is incomplete because its writer was stopped.

    Only the last line can lack its end. A line that does not begin like a row, or is complete JSON,
    is damaged in a different way.
    """
    if line.endswith(b"\n") or not ROW_BEGINS.startswith(line[: len(ROW_BEGINS)]):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _last(file: BinaryIO, size: int) -> bytes:
    """The last bytes of a file."""
    file.seek(-size, os.SEEK_END)
    return file.read()


def _first(error: ValidationError) -> str:
    """The first error, and the number of others."""
    detail, *others = error.errors(include_url=False, include_context=False)
    field = ".".join(map(str, detail["loc"]))
    more = f"; and {len(others)} more" if others else ""
    return f"{field}: {detail['msg']}{more}" if field else f"{detail['msg']}{more}"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a UsageError that names the run's folder."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"--results: {path} cannot be written: {error.strerror}") from error
