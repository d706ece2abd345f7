"""What commands print: results on stdout, as tables or as JSON; everything else on stderr.

A terminal or a pipe may have any encoding. Characters that it lacks are replaced by plain ones.
"""

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console


PLAIN: Final = "gspn2bench.plain"
"""Name of the error handler that ``prepare_streams`` gives to stdout and stderr."""
REPLACEMENTS: Final = {
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{MIDDLE DOT}": ".",
    "\N{MICRO SIGN}": "u",
    "\N{DEGREE SIGN}": "",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{BULLET}": "*",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    # the blocks of a sparkline, from low to high
    **{chr(0x2581 + level): str(level + 1) for level in range(8)},
}


def prepare_streams() -> None:
    """Let stdout and stderr replace what their encoding lacks, for the rest of the process."""
    codecs.register_error(PLAIN, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def discard_stdout() -> None:
    """Send what stdout still holds to the null device, after stdout failed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text on stdout or stderr, and flush it.

    typer's own function would write UTF-8 to a stream that is ASCII.

    Args:
        text: the text.
        err: print on stderr.
        nl: add a line break.
    """
    file = sys.stderr if err else sys.stdout
    if file is None:  # the stream is closed
        return
    try:
        typer.echo(text, file=file, nl=nl)
    except BrokenPipeError:
        if not err:
            discard_stdout()


def console() -> "Console":
    """Stdout for tables, without colours if it is not a terminal or NO_COLOR is set.

    A pipe that is closed early, as by ``head``, does not change the exit code.
    """
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            discard_stdout()

    return PipedConsole(highlight=False)


def print_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Print lines on stderr, unless the command is quiet."""
    for note in () if quiet else notes:
        echo(note, err=True)


def print_json(document: Mapping[str, object]) -> None:
    """Print a document as JSON, in ASCII, so names cannot send control codes to a terminal.

    Raises:
        ValueError: the document contains a NaN or an infinity; a missing value must be None.
    """
    echo(json.dumps(document, indent=2, allow_nan=False))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by ASCII characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_ascii, text)), error.end


def _ascii(character: str) -> str:
    if character in REPLACEMENTS:
        return REPLACEMENTS[character]
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return letters or "?"
