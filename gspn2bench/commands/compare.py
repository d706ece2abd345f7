"""``gspn2bench compare``: what changed between two recorded runs."""

from typing import Annotated

import typer

from gspn2bench.commands import completion
from gspn2bench.commands.options import RESULTS, AsJson, OldRuns, Quiet
from gspn2bench.commands.output import console, echo, print_json
from gspn2bench.errors import UsageError


def compare(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="Run to compare with: folder, name, unique prefix of the name, or latest.",
            autocompletion=completion.runs,
        ),
    ],
    new: Annotated[
        str,
        typer.Argument(
            metavar="NEW",
            help="Run to judge, named in the same way.",
            autocompletion=completion.runs,
        ),
    ],
    threshold: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Smallest change that counts, as 3% or 0.03 of the faster run.",
        ),
    ] = "3%",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if a row is AMBIGUOUS or CLOCK.")
    ] = False,
    ignore_environment: Annotated[
        bool,
        typer.Option("--ignore-environment", help="Compare runs of different GPUs or drivers."),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Accept a NEW that has only a few rows of BASE."),
    ] = False,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print Markdown, for the comment of a pull request."),
    ] = False,
    results: OldRuns = RESULTS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs row by row, and find regressions.

    Each row is judged by its samples: SAME, FASTER, SLOWER or AMBIGUOUS, or CLOCK where only the
    clock of the GPU changed.

    Exit codes: 0 if there is no regression, 1 if a row is SLOWER or lost its latency. Without a
    regression, 3 if most rows of BASE are missing in NEW, and 4 with --strict if a row is
    AMBIGUOUS or CLOCK.
    """
    from gspn2bench.analysis.compare import compare, parse_threshold
    from gspn2bench.analysis.significance import Verdict
    from gspn2bench.records.store import find_run, read_run
    from gspn2bench.report.comparison import summary_line
    from gspn2bench.report.text import changes_markdown
    from gspn2bench.report.text.changes import render_terminal, to_json

    if markdown and (as_json or quiet):
        raise UsageError("--markdown: can't be combined with --json or --quiet")
    share = parse_threshold(threshold)
    before, after = (read_run(find_run(name, results)) for name in (base, new))
    comparison = compare(before, after, share, ignore_environment=ignore_environment)
    code = 0
    if comparison.regressed:
        code = 1
    elif comparison.incomplete and not allow_missing:
        code = 3
    elif strict and (comparison.count(Verdict.AMBIGUOUS) or comparison.count(Verdict.CLOCK)):
        code = 4
    if as_json:
        print_json(to_json(comparison) | {"exit_code": code})
    elif markdown:
        echo(changes_markdown.render(comparison), nl=False)
    elif quiet:
        echo(summary_line(comparison))
    else:
        console().print(render_terminal(comparison))
    if code:
        raise typer.Exit(code)
