"""Writing a report's file: whole or not at all, and never over anything else."""

import contextlib
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from gspn2bench.errors import UsageError


def file_name(ids: Sequence[str]) -> str:
    """Run ids as a file's name: joined, without what no file name should hold, cut if long."""
    name = "+".join(re.sub(r"[^\w.-]+", "_", run)[:80].strip(".") or "_" for run in ids[:2])
    more = f"+{len(ids) - 2}-more" if len(ids) > 2 else ""
    return f"{name}{more}"


def write_own(text: str, path: Path, marker: str, ids: Sequence[str]) -> None:
    """Write a report; an earlier one of the same runs is replaced.

    Args:
        text: the report, with the marker in it.
        path: its file; folders are made.
        marker: what tells a report of these runs from any other file.
        ids: the runs, for the message.

    Raises:
        UsageError: the file is something else, or cannot be written.
    """
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.new")
    try:
        if path.exists() and marker not in path.read_text("utf-8", errors="replace"):
            raise UsageError(f"-o: {path} exists and is no report of {', '.join(ids)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UsageError(f"-o: {path} cannot be written: {error.strerror}") from error
