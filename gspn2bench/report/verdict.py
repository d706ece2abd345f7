"""The conclusion of a run in sentences. The text is plain; callers escape it."""

import math
from dataclasses import dataclass

import pandas as pd

from gspn2bench.analysis.frame import QUOTED, base_order, frame, rung_order
from gspn2bench.problem import CASE_PHASES
from gspn2bench.records.schema import RunRecord
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import count, number, percent, plural, speedups


@dataclass(frozen=True)
class Conclusion:
    """A run in words: the headline, then the details that support or limit it."""

    headline: str
    details: tuple[str, ...]


def conclusion(run: Run) -> Conclusion:
    """Speed-ups, gates, launches and failures of a run; a simulated run has no speed-ups."""
    table = frame([run])
    checks = [*_gates(table), *_launches(table), *_failures(table)]
    if run.record.simulated:
        text = simulated_sentence(run.record)
        return Conclusion(text[0].upper() + text[1:], tuple(checks))
    sentences = [text for phase in CASE_PHASES for text in _speedups(run.record, table, phase)]
    headline, *details = sentences or [_without_speedup(table)]
    return Conclusion(headline, (*details, *checks))


def simulated_sentence(record: RunRecord) -> str:
    """The reason why a simulated run has no latency, as a sentence."""
    reason = (record.simulated_reason or "the run gives no reason").strip().rstrip(".")
    return f"the run is simulated and its latencies are empty ({reason})."


def _speedups(record: RunRecord, table: pd.DataFrame, phase: str) -> list[str]:
    """The sentences on one phase, in the first quoted timing with a speed-up."""
    pairs = table[(table["phase"] == phase) & (table["base_rung"] != table["rung"])]
    pairs = pairs[pairs["speedup"].notna()]
    for timing in QUOTED:
        for _, rows in pairs[pairs["timing"] == timing].groupby("l2"):
            base = base_order(record, rows["base_rung"])[0]
            rows = rows[rows["base_rung"] == base]  # noqa: PLW2901
            return _sentences(_best(rows))
    return []


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the rung with the largest mean speed-up on the cases with the most rungs."""
    ran = rows.groupby("title")["rung"].nunique()
    common = rows[rows["title"].isin(ran[ran == ran.max()].index)]
    means = common.groupby("rung")["speedup"].agg(_geometric_mean)
    return rows[rows["rung"] == means.idxmax()]


def _geometric_mean(values: pd.Series) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _sentences(best: pd.DataFrame) -> list[str]:
    top = best.iloc[int(best["speedup"].to_numpy().argmax())]
    where = f"{top['timing']} time, {top['l2']} L2, {top['machine']}"
    times = f"{number(top['latency_ms'])} ms against {number(top['base_latency_ms'])} ms"
    low, high = best["speedup"].min(), best["speedup"].max()
    if len(best) > 1:
        headline = (
            f"{top['rung']} is {speedups(low, high, top['base_rung'])} over"
            f" {plural(len(best), 'case')}, {top['phase']} ({where});"
            f" best on {top['title']}: {times}."
        )
    elif top["overlaps"]:
        headline = (
            f"{top['rung']} and {top['base_rung']} cannot be told apart on {top['title']},"
            f" {top['phase']}: {times}, and their intervals overlap ({where})."
        )
    else:
        headline = (
            f"{top['rung']} is {speedups(high, high, top['base_rung'])} on {top['title']},"
            f" {top['phase']}: {times} ({where})."
        )
    if math.isnan(top["copy_share"]):
        return [headline]
    rate = (
        f"On {top['title']}, {top['phase']}, {top['rung']} reaches {number(top['gbps'], 4)} GB/s,"
        f" {percent(top['copy_share'])} of the measured copy bandwidth"
        f" ({number(top['copy_gbps'], 4)} GB/s)."
    )
    return [headline, rate]


def _without_speedup(table: pd.DataFrame) -> str:
    """The headline if no two rungs can be compared."""
    shown = table[table["latency_ms"].notna()]
    if shown.empty:
        reasons = sorted(set(table["withheld"]) - {""})
        suffix = f": {', '.join(reasons)}" if reasons else ""
        return f"No row has a latency{suffix}."
    if not shown["timing"].isin(QUOTED).any():
        return "No speed-up is quoted: there is no graph or device time, only eager time."
    best = shown[shown["timing"].isin(QUOTED)].iloc[0]
    return (
        f"No two rungs have a latency on the same case. {best['rung']} takes"
        f" {number(best['latency_ms'])} ms on {best['title']}, {best['phase']}"
        f" ({best['timing']} time, {best['l2']} L2, {best['machine']})."
    )


def _gates(table: pd.DataFrame) -> list[str]:
    gated = table[table["gate_error"].notna() | (table["status"] == "incorrect")]
    if gated.empty:
        return ["No row went through the correctness gate."]
    cases = gated.drop_duplicates(["title", "rung", "phase", "direction"])
    green = int(cases["gate_green"].sum())
    worst = (gated["gate_error"] / gated["gate_tolerance"]).max()
    text = (
        f"Correctness: {green} of {plural(len(cases), 'gate')} green against the float64 reference"
    )
    if math.isnan(worst):
        return [f"{text}."]
    return [f"{text}; the largest error is {percent(worst)} of its tolerance."]


def _launches(table: pd.DataFrame) -> list[str]:
    counted = table[table["launches_agree"].notna()]
    if counted.empty:
        if table["launches_observed"].notna().any():
            return ["Launches were counted, but no rung declares an expected count."]
        return ["No launches were counted."]
    cases = counted.drop_duplicates(["title", "rung", "phase", "direction", "launches_agree"])
    agree = int(cases["launches_agree"].sum())
    first = cases[cases["title"] == cases.iloc[0]["title"]].drop_duplicates("rung")
    first = first.sort_values("rung", key=lambda rungs: rungs.map(rung_order))
    counts = ", ".join(
        f"{row['rung']} {count(row['launches_observed'])}" for row in first.to_dict("records")
    )
    return [
        f"Launches: {agree} of {plural(len(cases), 'count')} as expected; per"
        f" {cases.iloc[0]['phase']} call on {cases.iloc[0]['title']}: {counts}."
    ]


def _failures(table: pd.DataFrame) -> list[str]:
    bad = table[table["status"] != "ok"]
    if bad.empty:
        return [f"Rows: all {len(table):,} ok."] if len(table) else ["The run has no rows."]
    counts = ", ".join(f"{many} {status}" for status, many in bad["status"].value_counts().items())
    return [f"Not ok: {len(bad)} of {plural(len(table), 'row')} ({counts})."]
