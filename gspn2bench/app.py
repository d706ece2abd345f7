"""The command line: the commands by name, and what an error becomes."""

import sys

import typer

from gspn2bench.commands.doctor import doctor
from gspn2bench.commands.list_ import list_
from gspn2bench.commands.report import report
from gspn2bench.commands.show import show
from gspn2bench.commands.sweep import sweep
from gspn2bench.errors import UsageError

app = typer.Typer(
    name="gspn2bench",
    help="Benchmark and profile GPU kernels for the GSPN line scan.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(sweep)
app.command()(report)
app.command()(show)
app.command("list")(list_)
app.command()(doctor)


def main() -> None:
    """Run the command line; exit codes: 0 ok, 2 usage, 3 partial or failed, 130 interrupted."""
    try:
        app()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
