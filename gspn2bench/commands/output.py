"""What commands print: results on stdout, as tables or as JSON; everything else on stderr."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Stdout for tables, without colours if it is not a terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(highlight=False)


def print_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Print lines on stderr, unless the command is quiet."""
    for note in () if quiet else notes:
        typer.echo(note, err=True)


def print_json(document: Mapping[str, object]) -> None:
    """Print a document as JSON, in ASCII, so names cannot send control codes to a terminal.

    Raises:
        ValueError: the document contains a NaN or an infinity; a missing value must be None.
    """
    typer.echo(json.dumps(document, indent=2, allow_nan=False))
