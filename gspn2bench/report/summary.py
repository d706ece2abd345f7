"""What the head of a report says of each run."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gspn2bench.errors import UsageError
from gspn2bench.records.schema import RunRecord
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import number, plural
from gspn2bench.report.verdict import Conclusion, conclusion


@dataclass(frozen=True)
class Summary:
    """One run: what it says, how it was made, and the command to make it again."""

    record: RunRecord
    verdict: Conclusion
    facts: tuple[tuple[str, str], ...]
    command: str


def run_ids(runs: Sequence[Run]) -> list[str]:
    """The ids of the runs of one report.

    Raises:
        UsageError: there is no run, or two have the same id.
    """
    ids = [run.record.run_id for run in runs]
    if not ids:
        raise UsageError("RUN: a report needs at least one run")
    if len(set(ids)) < len(ids):
        raise UsageError(f"RUN: a run is given twice among {', '.join(ids)}")
    return ids


def titles(runs: Sequence[Run]) -> str:
    """The title of a report on these runs."""
    return " and ".join(dict.fromkeys(run.record.title for run in runs))


def summary(run: Run) -> Summary:
    """The verdict on a run, and the facts that it rests on."""
    record = run.record
    facts = [
        ("machine", record.machine or "not named in the run"),
        ("scenario", record.scenario),
        ("source", record.source),
        ("started", record.started_utc),
        ("finished", record.finished_utc or "not finished"),
        ("L2 before each call", record.l2),
        ("copy bandwidth, read and write", _copy(record)),
        ("least step", f"{number(record.step_us)} µs" if record.step_us else "not measured"),
        ("seed", str(record.seed)),
    ]
    return Summary(record, conclusion(run), tuple(facts), shlex.join(record.command))


def _copy(record: RunRecord) -> str:
    if record.simulated:
        return "none: simulated"
    if record.copy_gbps is None:
        return "not measured"
    said = f"{number(record.copy_gbps, 4)} GB/s"
    samples = record.copy_samples_gbps
    if samples:
        low, high = number(min(samples), 4), number(max(samples), 4)
        said += f" ({low} to {high} over {plural(len(samples), 'sample')})"
    return said
