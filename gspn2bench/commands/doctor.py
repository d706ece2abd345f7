"""``gspn2bench doctor``."""


def doctor() -> None:
    """Say what this machine can do, and how to mend what it cannot."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gspn2bench.doctor import examine

    colours = {"yes": "green", "no": "red", "unknown": "yellow"}
    table = Table(title="What this machine can do", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found, and how to mend it", overflow="fold")
    for check in examine():
        answer = f"[{colours[check.answer]}]{check.answer}[/]"
        mend = f"\n[bold]to mend:[/] {escape(check.mend)}" if check.mend else ""
        table.add_row(check.name, answer, escape(check.detail) + mend)
    Console().print(table)
