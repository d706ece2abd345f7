"""The ladder as a Markdown page: what each rung's own file says of it, and the figures of runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gspn2bench.analysis.frame import QUOTED
from gspn2bench.records.store import Run
from gspn2bench.report.tables import Table
from gspn2bench.report.text.markdown import case_tables, escape, table_text, verdict_lines

NO_FIGURES = "No figure is recorded here: the page was made without a run."


@dataclass(frozen=True)
class Lesson:
    """One rung as its file presents it.

    Args:
        id: "r03".
        title: two or three words.
        idea: one line.
        link: to its file or folder, from the page.
        header: its docstring: a sentence, then paragraphs, some of which begin with Idea, Also,
            Changes since rNN, Expect or Source.
    """

    id: str
    title: str
    idea: str
    link: str
    header: str


def render(lessons: Sequence[Lesson], runs: Sequence[Run], command: str) -> str:
    """The page.

    Args:
        lessons: in the order of the ladder.
        runs: whose figures are shown; perhaps none.
        command: that makes the page again.
    """
    parts = [
        f"<!-- Made by `{command}`; change the files of the rungs, not this one. -->",
        "# The ladder",
        "Each rung is one file that stands on the one before; this page is made of their headers."
        " *Expect* names what a profiler should show; it is a prediction until a run shows it.",
        table_text(_overview(lessons)),
        *(part for lesson in lessons for part in _section(lesson)),
        "## Figures",
        *(part for run in runs for part in _figures(run)),
    ]
    return "\n\n".join(parts if runs else [*parts, NO_FIGURES]) + "\n"


def _overview(lessons: Sequence[Lesson]) -> Table:
    rows = tuple((f"{lesson.id} {lesson.title}", lesson.idea) for lesson in lessons)
    return Table("", ("rung", "is"), (False, False), rows)


def _section(lesson: Lesson) -> list[str]:
    first, *paragraphs = re.split(r"\n\s*\n", lesson.header.strip())
    said = _prose(first.partition(": ")[2])
    file = lesson.link.rpartition("/")[2]
    return [
        f"## {lesson.id} {lesson.title}",
        f"{said[:1].upper()}{said[1:]} [{file}]({lesson.link})",
        *(_labelled(_prose(paragraph)) for paragraph in paragraphs),
    ]


def _labelled(text: str) -> str:
    return re.sub(r"^(Idea|Also|Changes since r\d+[a-z]?|Expect|Source): ", r"**\1:** ", text)


def _prose(text: str) -> str:
    """A paragraph of a docstring on one line: its words escaped, its code as Markdown has it."""
    pieces = re.split(r"``(.+?)``", " ".join(text.split()))
    pieces[::2] = [re.sub(r"([*|<]|(?<!\w)_|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"`{code}`" for code in pieces[1::2]]
    return re.sub(r"arXiv (\d+\.\d+)", r"arXiv [\1](https://arxiv.org/abs/\1)", "".join(pieces))


def _figures(run: Run) -> list[str]:
    timings = [timing for timing in QUOTED if any(row.timing == timing for row in run.rows)]
    return [
        f"### {escape(run.record.run_id)}",
        *verdict_lines(run),
        *case_tables(run, "####", timings[:1]),
    ]
