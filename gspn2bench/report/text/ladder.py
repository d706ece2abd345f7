"""The ladder as a Markdown page: the headers of the rungs' files, and the tables of runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gspn2bench.analysis.frame import QUOTED
from gspn2bench.records.store import Run
from gspn2bench.report.tables import Table
from gspn2bench.report.text.markdown import case_tables, conclusion_lines, escape, table_text

NO_FIGURES = "This page was generated without a run, so it has no figures."


@dataclass(frozen=True)
class Lesson:
    """One rung as its file describes it.

    Args:
        id: "r03".
        title: two or three words.
        idea: one line.
        link: path from the page to its file or folder.
        header: its docstring: a sentence, then paragraphs, some of which start with Idea, Also,
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
        runs: the runs whose figures are shown; may be empty.
        command: the command that generates the page.
    """
    parts = [
        f"<!-- Made by `{command}`; edit the files of the rungs, not this page. -->",
        "# The ladder",
        "Each rung is one file and builds on the rung before it. This page consists of the files'"
        " headers. *Expect* is a prediction of what a profiler shows.",
        table_text(_overview(lessons)),
        *(part for lesson in lessons for part in _section(lesson)),
        "## Figures",
        *(part for run in runs for part in _figures(run)),
    ]
    return "\n\n".join(parts if runs else [*parts, NO_FIGURES]) + "\n"


def _overview(lessons: Sequence[Lesson]) -> Table:
    rows = tuple((f"{lesson.id} {lesson.title}", lesson.idea) for lesson in lessons)
    return Table("", ("rung", "idea"), (False, False), rows)


def _section(lesson: Lesson) -> list[str]:
    first, *paragraphs = re.split(r"\n\s*\n", lesson.header.strip())
    text = _prose(first.partition(": ")[2])
    file = lesson.link.rpartition("/")[2]
    return [
        f"## {lesson.id} {lesson.title}",
        f"{text[:1].upper()}{text[1:]} [{file}]({lesson.link})",
        *(_labelled(_prose(paragraph)) for paragraph in paragraphs),
    ]


def _labelled(text: str) -> str:
    return re.sub(r"^(Idea|Also|Changes since r\d+[a-z]?|Expect|Source): ", r"**\1:** ", text)


def _prose(text: str) -> str:
    """A paragraph of a docstring as Markdown on one line, with its text escaped."""
    pieces = re.split(r"``(.+?)``", " ".join(text.split()))
    pieces[::2] = [re.sub(r"([*|<]|(?<!\w)_|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"`{code}`" for code in pieces[1::2]]
    return re.sub(r"arXiv (\d+\.\d+)", r"arXiv [\1](https://arxiv.org/abs/\1)", "".join(pieces))


def _figures(run: Run) -> list[str]:
    timings = [timing for timing in QUOTED if any(row.timing == timing for row in run.rows)]
    return [
        f"### {escape(run.record.run_id)}",
        *conclusion_lines(run),
        *case_tables(run, "####", timings[:1]),
    ]
