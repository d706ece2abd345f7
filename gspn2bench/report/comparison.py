"""A comparison of two runs in sentences and percentages, for the page and for the terminal."""

from gspn2bench.analysis.compare import Comparison
from gspn2bench.analysis.significance import FLOOR, MIN_SAMPLES, Change, Verdict
from gspn2bench.report.formatting import plural


def summary_lines(comparison: Comparison) -> list[str]:
    """The number of rows per verdict, then the limits of the comparison; one sentence per line."""
    threshold = _threshold(comparison)
    lines = [summary_line(comparison)]
    if comparison.base.run_id == comparison.new.run_id:
        lines.append("BASE and NEW are the same run: its samples are compared with themselves.")
    if comparison.count(Verdict.AMBIGUOUS):
        lines.append(
            f"AMBIGUOUS: the samples show neither a change of {threshold} nor the absence of one; "
            "a higher --samples may decide."
        )
    if comparison.count(Verdict.CLOCK):
        lines.append(
            "CLOCK: the latency changed, and latency x clock did not; only the clock of the "
            "multiprocessors shows a change."
        )
    if comparison.threshold <= FLOOR:
        lines.append(
            f"No row can be SAME within {threshold}: two runs of the same code may differ by up to"
            f" {100 * FLOOR:.1f} %."
        )
    return lines


def summary_line(comparison: Comparison) -> str:
    """The number of rows per verdict, on one line."""
    verdicts = [(str(verdict), comparison.count(verdict)) for verdict in Verdict]
    judged = sum(many for _, many in verdicts)
    counts = ", ".join(
        f"{many} {name}" for name, many in [*verdicts, ("lost", comparison.lost)] if many
    )
    line = f"{plural(judged, 'row')} compared, threshold {_threshold(comparison)}: {counts}."
    if comparison.incomplete:
        line += f" Most rows are missing in NEW: {comparison.missing} of {comparison.expected}."
    return line


def percent_text(ratio: float) -> str:
    """A ratio as a change in percent: 1.051 is "+5.1"."""
    change = 100 * (ratio - 1)
    return f"{change:+z.1f}" if abs(change) < 100 else f"{change:+,.0f}"


def interval_text(change: Change) -> str:
    """The interval of a change in percent, or the reason why there is none."""
    if change.interval is None:
        return f"under {MIN_SAMPLES} samples"
    low, high = change.interval
    return f"{percent_text(low)} to {percent_text(high)}"


def clock_text(change: Change) -> str:
    """The clocks of a change and its cycles: "clock 1980 to 1755 MHz, cycles +0.3 %"."""
    if change.clocks_mhz is None or change.cycles_ratio is None:
        return "clock unknown"
    base, new = change.clocks_mhz
    return f"clock {base:.0f} to {new:.0f} MHz, cycles {percent_text(change.cycles_ratio)} %"


def _threshold(comparison: Comparison) -> str:
    return f"{100 * comparison.threshold:g} %"
