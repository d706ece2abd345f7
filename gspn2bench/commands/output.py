"""What commands print: results on stdout, for people or as JSON; all else goes to stderr."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Stdout for tables: without colours where it is no terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(document: Mapping[str, object]) -> None:
    """Print a document as JSON, in ASCII so that no name in it can steer a terminal.

    Raises:
        ValueError: a NaN or an infinity is in it; what does not exist is None.
    """
    typer.echo(json.dumps(document, indent=2, allow_nan=False))
