"""A comparison for the terminal: a table for each case, what could not be compared, the sum.

Or as data, for scripts.
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
from gspn2bench.analysis.significance import CONFIDENCE, FLOOR, MIN_SAMPLES, Change, Verdict
from gspn2bench.problem import CASE_PHASES, SHORT_PHASES
from gspn2bench.records.schema import Row, RunRecord
from gspn2bench.report.formatting import number, plural, printable

COLOURS = {
    Verdict.SAME: "dim",
    Verdict.FASTER: "green",
    Verdict.SLOWER: "bold red",
    Verdict.AMBIGUOUS: "yellow",
}


def render_terminal(comparison: Comparison) -> RenderableType:
    """What ``gspn2bench compare`` prints; names are text, never rich's markup."""
    cases: dict[tuple[str, str], list[tuple[Row, Change]]] = defaultdict(list)
    for pair in comparison.pairs:
        if pair.change:
            cases[pair.row.l2, pair.row.case].append((pair.row, pair.change))
    lines: list[RenderableType] = [_run("BASE", comparison.base), _run("NEW", comparison.new)]
    for rows in cases.values():
        lines += [Text(), _heading(rows[0][0]), _table(rows)]
    others = [pair for pair in comparison.pairs if not pair.change]
    for title, why, pairs in (
        ("Lost: a latency in BASE, none in NEW", _new, [p for p in others if p.lost]),
        ("No latency in BASE", _both, [p for p in others if p.base and p.new is not None]),
        ("Only in BASE", _base, [p for p in others if p.new is None]),
        ("Only in NEW", _new, [p for p in others if p.base is None]),
    ):
        lines += _listed(title, pairs, why)
    return Group(*lines, Text(), *map(Text, summary_lines(comparison)))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison for JSON: ``base``, ``new``, ``threshold``, ``verdicts``, ``lost``, ``pairs``.

    A pair that was not judged has no verdict and says why in ``base_lacks`` and ``new_lacks``:
    empty where the run has a latency, None where it has no such row.
    """
    return {
        "base": comparison.base.run_id,
        "new": comparison.new.run_id,
        "threshold": comparison.threshold,
        "verdicts": {verdict.value: comparison.count(verdict) for verdict in Verdict},
        "lost": comparison.lost,
        "pairs": [_pair(pair) for pair in comparison.pairs],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    change = pair.change
    low, high = (change and change.interval) or (None, None)
    return {
        **{field: getattr(pair.row, field) for field in (*KEY, "l2")},
        "verdict": change and change.verdict.value,
        "base_ms": change and change.base_ms,
        "new_ms": change and change.new_ms,
        "ratio": change and change.ratio,
        "ratio_low": low,
        "ratio_high": high,
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
    for header in ("scan", "pass", "time"):
        table.add_column(header, no_wrap=True)
    for header in ("base ms", "new ms", "change", f"{CONFIDENCE:.0%} interval"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row, change in sorted(rows, key=lambda one: _order(one[0])):
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


def percent_text(ratio: float) -> str:
    """A ratio as a change in percent: 1.051 is "+5.1"."""
    change = 100 * (ratio - 1)
    return f"{change:+z.1f}" if abs(change) < 100 else f"{change:+,.0f}"


def interval_text(change: Change) -> str:
    """The interval of a change in percent, or why there is none."""
    if change.interval is None:
        return f"under {MIN_SAMPLES} samples"
    low, high = change.interval
    return f"{percent_text(low)} to {percent_text(high)}"


def _listed(title: str, pairs: list[Pair], why: Callable[[Pair], str]) -> list[Text]:
    """Rows that were not compared, once for all the timings that say the same."""
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        row = pair.row
        name = f"{row.case}, {row.rung} {row.direction} {row.phase}"
        said[name, why(pair)].append(row.timing)
    if not said:
        return []
    lines = [
        Text(printable(f"- {name}, {' '.join(timings)}: {state}"))
        for (name, state), timings in said.items()
    ]
    return [Text(), Text(title, style="bold"), *lines]


def _base(pair: Pair) -> str:
    return pair.base or "ok"


def _new(pair: Pair) -> str:
    return pair.new or "ok"


def _both(pair: Pair) -> str:
    return f"{_base(pair)}; in NEW {_new(pair)}"


def summary_line(comparison: Comparison) -> str:
    """How many rows have which verdict, in a line."""
    counts = [(str(verdict), comparison.count(verdict)) for verdict in Verdict]
    judged = sum(many for _, many in counts)
    said = ", ".join(
        f"{many} {what}" for what, many in [*counts, ("lost", comparison.lost)] if many
    )
    return f"{plural(judged, 'row')} compared, threshold {_threshold(comparison)}: {said}."


def _threshold(comparison: Comparison) -> str:
    return f"{100 * comparison.threshold:g} %"


def summary_lines(comparison: Comparison) -> list[str]:
    """How many rows came out how, and what limits that, a sentence a line."""
    threshold = _threshold(comparison)
    lines = [summary_line(comparison)]
    if comparison.base.run_id == comparison.new.run_id:
        lines.append("BASE and NEW are the same run: this compares samples with themselves.")
    if comparison.count(Verdict.AMBIGUOUS):
        lines.append(
            f"AMBIGUOUS: neither a change of {threshold} nor the lack of one is shown; "
            "more --samples may tell."
        )
    if comparison.threshold <= FLOOR:
        lines.append(
            f"No row can be SAME to within {threshold}: two runs of the same code are taken to"
            f" differ by up to {100 * FLOOR:.1f} %."
        )
    return lines
