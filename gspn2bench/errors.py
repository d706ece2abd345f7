"""Errors that a user can mend: the command line prints them and exits with 2."""

import difflib
from collections.abc import Iterable
from typing import Final

MOST: Final = 12
"""Names that an error lists at the most."""


class UsageError(ValueError):
    """Bad input; the message names the argument or token and the bound or the nearest names."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, offering the nearest ones.

    Args:
        kind: what the name was to be: "scenario", "rung", "axis".
        name: the token as the user gave it.
        known: the names there are.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.4)
    more = f" and {len(choices) - MOST} more" if len(choices) > MOST else ""
    there_are = f"there are {', '.join(choices[:MOST])}{more}"
    hint = f"did you mean {' or '.join(near)}?" if near else there_are
    return UsageError(f"{kind}: no {kind} is named {name!r}; {hint}")
