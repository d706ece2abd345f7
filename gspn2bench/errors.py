"""Errors that a user can fix: the command line prints them and exits with 2."""

import difflib
import os
from collections.abc import Iterable
from typing import Final

MOST: Final = 12
"""Most names that an error lists."""


class UsageError(ValueError):
    """Bad input; the message names the argument or token, and the bound or the nearest names."""


def check_utf8(kind: str, text: str) -> None:
    """Check that a text can be stored as UTF-8; paths on Linux may hold other bytes.

    Args:
        kind: what the text is, for the message: "--results".
        text: as Python decoded it from the command line.

    Raises:
        UsageError: it can't.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{kind}: {os.fsencode(text)!r} is not UTF-8, and can't be stored"
        ) from error


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for an unknown name, with the nearest known ones.

    Args:
        kind: what the name stands for: "scenario", "rung", "axis".
        name: the token as the user wrote it.
        known: the names that exist.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.4)
    more = f" and {len(choices) - MOST} more" if len(choices) > MOST else ""
    listed = f"choose from {', '.join(choices[:MOST])}{more}"
    hint = f"did you mean {' or '.join(near)}?" if near else listed
    return UsageError(f"{kind}: no {kind} is named {name!r}; {hint}")
