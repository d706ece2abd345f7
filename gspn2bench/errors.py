"""Errors that a user can fix: the command line prints them and exits with 2."""

import difflib
from collections.abc import Iterable
from typing import Final

MOST: Final = 12
"""Most names that an error lists."""


class UsageError(ValueError):
    """Bad input; the message names the argument or token, and the bound or the nearest names."""


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
