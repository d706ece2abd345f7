"""``gspn2bench doctor``."""

from dataclasses import asdict

from gspn2bench.commands.options import AsJson, Quiet
from gspn2bench.commands.output import console, echo, print_json


def doctor(quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Check what this machine can do, and how to fix what is missing.

    With --quiet, only the names of the failed checks are printed, one per line.
    """
    from rich.markup import escape
    from rich.table import Table

    from gspn2bench.system.doctor import examine

    checks = examine()
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
        return
    if quiet:
        for check in checks:
            if check.answer == "no":
                echo(check.name)
        return
    colours = {"yes": "green", "no": "red", "unknown": "yellow"}
    table = Table(title="What this machine can do", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("details", overflow="fold")
    for check in checks:
        answer = f"[{colours[check.answer]}]{check.answer}[/]"
        fix = f"\n[bold]fix:[/] {escape(check.fix)}" if check.fix else ""
        table.add_row(check.name, answer, escape(check.detail) + fix)
    console().print(table)
