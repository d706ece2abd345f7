"""A comparison of two runs as GitHub Markdown, for the comment of a pull request.

The verdict comes first, then the rows that need attention, then all rows, folded.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gspn2bench.analysis.compare import Comparison, Pair
from gspn2bench.analysis.significance import CONFIDENCE, Verdict
from gspn2bench.problem import SHORT_PHASES
from gspn2bench.records.schema import RunRecord
from gspn2bench.report.comparison import clock_text, interval_text, percent_text, summary_lines
from gspn2bench.report.formatting import number, plural
from gspn2bench.report.text.markdown import escape

MARKER: Final = "<!-- gspn2bench compare -->"
"""First line of the comment, by which a script finds the comment that it wrote before."""
MAX_CHARACTERS: Final = 60_000
"""Longest text; GitHub refuses a comment of more than 65,536 characters."""
HEADERS: Final = (
    "case",
    "L2",
    "rung",
    "scan",
    "phase",
    "time",
    "base, ms",
    "new, ms",
    "change",
    f"{CONFIDENCE:.0%} interval, %",
    "verdict",
)
NUMERIC: Final = ("base, ms", "new, ms", "change", f"{CONFIDENCE:.0%} interval, %")


def render(comparison: Comparison) -> str:
    """The comment: at most ``MAX_CHARACTERS``; rows that do not fit are counted instead."""
    groups: tuple[tuple[str, bool, Callable[[Pair], bool]], ...] = (
        ("Slower or lost", True, lambda pair: pair.lost or _is(pair, Verdict.SLOWER)),
        ("Missing in NEW", False, lambda pair: pair.base == "" and pair.new is None),
        ("Changed with the clock", False, lambda pair: _is(pair, Verdict.CLOCK)),
        ("Faster", True, lambda pair: _is(pair, Verdict.FASTER)),
        ("All rows", False, lambda _: True),
    )
    parts = [MARKER, f"### {_headline(comparison)}", _runs(comparison)]
    parts.append("\n".join(f"- {escape(line)}" for line in summary_lines(comparison)))
    left = MAX_CHARACTERS - sum(len(part) + 2 for part in parts)
    for title, opened, belongs in groups:
        pairs = [pair for pair in comparison.pairs if belongs(pair)]
        if pairs:
            parts.append(_group(title, opened, pairs, left))
            left -= len(parts[-1]) + 2
    return "\n\n".join(parts) + "\n"


def _is(pair: Pair, verdict: Verdict) -> bool:
    return pair.change is not None and pair.change.verdict is verdict


def _headline(comparison: Comparison) -> str:
    if comparison.regressed:
        slower, lost = comparison.count(Verdict.SLOWER), comparison.lost
        facts = [f"{plural(slower, 'row')} slower"] if slower else []
        facts += [f"{plural(lost, 'row')} without the latency of BASE"] if lost else []
        return f"Regression: {', '.join(facts)}"
    if comparison.incomplete:
        return "Incomplete: most rows of BASE are missing in NEW"
    return "No regression"


def _runs(comparison: Comparison) -> str:
    sides = (("BASE", comparison.base), ("NEW", comparison.new))
    return "\n".join(f"- {side}: {_run(record)}" for side, record in sides)


def _run(record: RunRecord) -> str:
    driver = record.environment.driver or "unknown"
    return escape(f"{record.run_id}, {record.machine or 'unknown GPU'}, driver {driver}")


def _group(title: str, opened: bool, pairs: Sequence[Pair], room: int) -> str:
    """A table that can be unfolded, cut to a number of characters."""
    rules = ["---:" if header in NUMERIC else "---" for header in HEADERS]
    lines = [_line(HEADERS), _line(rules)]
    head = f"<details{' open' if opened else ''}><summary>{title}: {len(pairs)}</summary>\n\n"
    end = "\n\n</details>"
    room -= len(head) + len(end) + sum(len(line) + 1 for line in lines) + 100
    for shown, pair in enumerate(pairs):
        line = _line(map(escape, _cells(pair)))
        room -= len(line) + 1
        if room < 0:
            lines.append(f"\n{plural(len(pairs) - shown, 'more row')}; see `gspn2bench compare`.")
            break
        lines.append(line)
    return head + "\n".join(lines) + end


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(pair: Pair) -> tuple[str, ...]:
    row, change = pair.row, pair.change
    where = (row.case, row.l2, row.rung, row.direction, SHORT_PHASES[row.phase], row.timing)
    if change is None:
        return (*where, "", "", "", "", _reason(pair))
    return (
        *where,
        number(change.base_ms, 4),
        number(change.new_ms, 4),
        f"{percent_text(change.ratio)} %",
        interval_text(change),
        f"{change.verdict}: {clock_text(change)}"
        if change.verdict is Verdict.CLOCK
        else str(change.verdict),
    )


def _reason(pair: Pair) -> str:
    if pair.new is None:
        return f"only in BASE: {pair.base or 'ok'}"
    if pair.base is None:
        return f"only in NEW: {pair.new or 'ok'}"
    return f"LOST: {pair.new}" if pair.lost else f"not compared: BASE {pair.base}"
