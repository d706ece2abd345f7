"""A comparison of two runs for the terminal, and as JSON for scripts.

The terminal shows a table per case, the rows that were not compared, and a summary.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gspn2bench.analysis.compare import KEY, Comparison, Pair
from gspn2bench.analysis.frame import TIMINGS, rung_order
from gspn2bench.analysis.significance import CONFIDENCE, Change, Verdict
from gspn2bench.problem import CASE_PHASES, SHORT_PHASES
from gspn2bench.records.schema import Row, RunRecord
from gspn2bench.report.comparison import clock_text, interval_text, percent_text, summary_lines
from gspn2bench.report.formatting import number, printable

COLOURS = {
    Verdict.SAME: "dim",
    Verdict.FASTER: "green",
    Verdict.SLOWER: "bold red",
    Verdict.AMBIGUOUS: "yellow",
    Verdict.CLOCK: "yellow",
}


def render_terminal(comparison: Comparison) -> RenderableType:
    """The output of ``gspn2bench compare``; names are never read as rich's markup."""
    cases: dict[tuple[str, str], list[tuple[Row, Change]]] = defaultdict(list)
    for pair in comparison.pairs:
        if pair.change:
            cases[pair.row.l2, pair.row.case].append((pair.row, pair.change))
    lines: list[RenderableType] = [_run("BASE", comparison.base), _run("NEW", comparison.new)]
    for rows in cases.values():
        lines += [Text(), _heading(rows[0][0]), _table(rows)]
    by_clock = [pair for pair in comparison.pairs if _is_clock(pair)]
    others = [pair for pair in comparison.pairs if not pair.change]
    for title, reason, pairs in (
        ("Changed with the clock", _clock, by_clock),
        ("Lost: latency in BASE, none in NEW", _new, [p for p in others if p.lost]),
        ("No latency in BASE", _both, [p for p in others if p.base and p.new is not None]),
        ("Only in BASE", _base, [p for p in others if p.new is None]),
        ("Only in NEW", _new, [p for p in others if p.base is None]),
    ):
        lines += _listed(title, pairs, reason)
    return Group(*lines, Text(), *map(Text, summary_lines(comparison)))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison for JSON: ``base``, ``new``, ``threshold``, counts of rows, and ``pairs``.

    The counts are ``verdicts``, ``lost``, ``missing`` and ``expected``, the rows of BASE with a
    latency. The verdict of a pair that was not judged is None. ``base_lacks`` and ``new_lacks``
    give the reason: empty if the run has a latency, None if it does not have the row.
    """
    return {
        "base": comparison.base.run_id,
        "new": comparison.new.run_id,
        "threshold": comparison.threshold,
        "verdicts": {verdict.value: comparison.count(verdict) for verdict in Verdict},
        "lost": comparison.lost,
        "missing": comparison.missing,
        "expected": comparison.expected,
        "pairs": [_pair(pair) for pair in comparison.pairs],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    change = pair.change
    low, high = (change and change.interval) or (None, None)
    base_mhz, new_mhz = (change and change.clocks_mhz) or (None, None)
    return {
        **{field: getattr(pair.row, field) for field in (*KEY, "l2")},
        "verdict": change and change.verdict.value,
        "base_ms": change and change.base_ms,
        "new_ms": change and change.new_ms,
        "ratio": change and change.ratio,
        "ratio_low": low,
        "ratio_high": high,
        "base_clock_mhz": base_mhz,
        "new_clock_mhz": new_mhz,
        "cycles_ratio": change and change.cycles_ratio,
        "base_lacks": pair.base,
        "new_lacks": pair.new,
        "lost": pair.lost,
    }


def _run(side: str, record: RunRecord) -> Text:
    driver = record.environment.driver or "unknown"
    where = f"{record.machine or 'unknown GPU'}, driver {driver}"
    return Text.assemble((f"{side:<4}", "bold"), printable(f"  {record.run_id}  {where}"))


def _heading(row: Row) -> Text:
    return Text.assemble((printable(row.case), "bold"), f"  {row.l2} L2")


def _table(rows: list[tuple[Row, Change]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("rung", overflow="fold")
    for header in ("scan", "phase", "time"):
        table.add_column(header, no_wrap=True)
    for header in ("base ms", "new ms", "change", f"{CONFIDENCE:.0%} interval"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row, change in sorted(rows, key=lambda entry: _order(entry[0])):
        table.add_row(
            *(Text(printable(name)) for name in (row.rung, row.direction)),
            SHORT_PHASES[row.phase],
            row.timing,
            number(change.base_ms, 4),
            number(change.new_ms, 4),
            f"{percent_text(change.ratio)} %",
            interval_text(change),
            Text(change.verdict, style=COLOURS[change.verdict]),
        )
    return table


def _order(row: Row) -> tuple[object, ...]:
    phase, timing = CASE_PHASES.index(row.phase), TIMINGS.index(row.timing)
    return phase, timing, rung_order(row.rung), row.direction


def _listed(title: str, pairs: list[Pair], reason: Callable[[Pair], str]) -> list[Text]:
    """The rows that were not compared; timings with the same reason share a line."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        row = pair.row
        name = f"{row.case}, {row.rung} {row.direction} {row.phase}"
        groups[name, reason(pair)].append(row.timing)
    if not groups:
        return []
    lines = [
        Text(printable(f"- {name}, {' '.join(timings)}: {text}"))
        for (name, text), timings in groups.items()
    ]
    return [Text(), Text(title, style="bold"), *lines]


def _is_clock(pair: Pair) -> bool:
    return pair.change is not None and pair.change.verdict is Verdict.CLOCK


def _clock(pair: Pair) -> str:
    return clock_text(pair.change) if pair.change else ""


def _base(pair: Pair) -> str:
    return pair.base or "ok"


def _new(pair: Pair) -> str:
    return pair.new or "ok"


def _both(pair: Pair) -> str:
    return f"{_base(pair)}; in NEW {_new(pair)}"
