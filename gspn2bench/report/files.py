"""Write report files: completely or not at all, and never over any other file."""

import contextlib
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from gspn2bench.errors import UsageError


def file_name(ids: Sequence[str]) -> str:
    """Run ids as a file name: joined, unsafe characters replaced, shortened if long."""
    name = "+".join(re.sub(r"[^\w.-]+", "_", run)[:80].strip(".") or "_" for run in ids[:2])
    more = f"+{len(ids) - 2}-more" if len(ids) > 2 else ""
    return f"{name}{more}"


def write_own(text: str, path: Path, marker: str, ids: Sequence[str]) -> None:
    """Write a report; an earlier report of the same runs is replaced.

    Args:
        text: the report, with the marker in it.
        path: the file; missing folders are created.
        marker: text that only reports of these runs contain.
        ids: ids of the runs, for the message.

    Raises:
        UsageError: the file is not a report of these runs, or it can't be written.
    """
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.new")
    try:
        if path.exists() and marker not in path.read_text("utf-8", errors="replace"):
            raise UsageError(f"-o: {path} exists and is not a report of {', '.join(ids)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UsageError(f"-o: {path} can't be written: {error.strerror}") from error
