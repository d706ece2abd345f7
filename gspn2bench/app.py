"""The command line: its commands, its first steps, and its exit codes."""

import os
import sys
import warnings
from contextlib import suppress
from typing import Final, NoReturn

import typer

from gspn2bench.commands.compare import compare
from gspn2bench.commands.doctor import doctor
from gspn2bench.commands.ingest import ingest
from gspn2bench.commands.list_ import list_
from gspn2bench.commands.output import discard_stdout, echo, prepare_streams
from gspn2bench.commands.profile import profile
from gspn2bench.commands.report import report
from gspn2bench.commands.show import show
from gspn2bench.commands.sweep import sweep
from gspn2bench.commands.trace import trace
from gspn2bench.commands.traffic import traffic
from gspn2bench.errors import UsageError

FIRST: Final = """\
Benchmark GPU kernels for the GSPN line scan. To begin:

  gspn2bench doctor          check what this machine can do
  gspn2bench sweep quick     run a few small cases, with or without a GPU
  gspn2bench show latest     print the run
  gspn2bench report latest   write the run as an HTML page

All commands:      gspn2bench --help
Shell completion:  gspn2bench --install-completion"""

app = typer.Typer(
    name="gspn2bench",
    rich_markup_mode=None,  # plain help is printed in half the time
    pretty_exceptions_show_locals=False,
)


@app.callback(invoke_without_command=True)
def first(ctx: typer.Context) -> None:
    """Benchmark and profile GPU kernels for the GSPN line scan."""
    if ctx.invoked_subcommand is None:
        echo(FIRST)


app.command()(sweep)
app.command()(report)
app.command()(show)
app.command()(compare)
app.command()(traffic)
app.command()(profile)
app.command()(ingest)
app.command()(trace)
app.command("list")(list_)
app.command()(doctor)


def main() -> None:
    """Run the command line.

    Exit codes: 0 ok, 1 regression, 2 usage, 3 partial or failed, 4 ambiguous under --strict,
    130 interrupted.
    """
    prepare_streams()
    if not sys.warnoptions and "PYTHONWARNINGS" not in os.environ:
        warnings.simplefilter("ignore")  # of libraries; ours are messages
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except UsageError as error:
        _fail(str(error), 2)
    except OSError as error:
        discard_stdout()
        where = "the output can't be written" if error.filename is None else error.filename
        _fail(f"{where}: {error.strerror or error}", 3)


def _fail(message: str, code: int) -> NoReturn:
    from gspn2bench.report.formatting import printable

    lines = "\n".join(map(printable, message.splitlines()))
    with suppress(OSError):
        echo(f"error: {lines}", err=True)
    sys.exit(code)
