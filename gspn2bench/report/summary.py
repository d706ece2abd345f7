"""The summary of a run at the head of a report."""

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
    """The conclusion of a run, its facts, and the command that repeats it."""

    record: RunRecord
    conclusion: Conclusion
    facts: tuple[tuple[str, str], ...]
    command: str


def run_ids(runs: Sequence[Run]) -> list[str]:
    """The ids of the runs of one report.

    Raises:
        UsageError: no run is given, or two have the same id.
    """
    ids = [run.record.run_id for run in runs]
    if not ids:
        raise UsageError("RUN: a report needs at least one run")
    if len(set(ids)) < len(ids):
        raise UsageError(f"RUN: a run is listed twice: {', '.join(ids)}")
    return ids


def titles(runs: Sequence[Run]) -> str:
    """The title of a report on these runs: their distinct titles, joined."""
    return " and ".join(dict.fromkeys(run.record.title for run in runs))


def summary(run: Run) -> Summary:
    """The conclusion of a run and its recorded facts."""
    record = run.record
    facts = [
        ("machine", record.machine or "not recorded"),
        ("scenario", record.scenario),
        ("source", record.source),
        ("started", record.started_utc),
        ("finished", record.finished_utc or "not finished"),
        ("L2 before each call", record.l2),
        ("copy bandwidth, read and write", _copy_bandwidth(record)),
        *_steps(record),
        ("seed", str(record.seed)),
    ]
    return Summary(record, conclusion(run), tuple(facts), shlex.join(record.command))


def _steps(record: RunRecord) -> list[tuple[str, str]]:
    """The chain of the floors, and the steps that were measured beside it."""

    def time(value: float | None) -> str:
        return f"{number(value)} µs" if value else "not measured"

    if record.floor_chain == "shared-memory steps":
        return [("least step", time(record.step_us))]
    floor = "not measured"
    if record.fma_us:
        launch, fma = time(record.launch_us), time(record.fma_us)
        floor = (
            f"the longer of bytes at copy bandwidth, and a launch ({launch}) with a chain of"
            f" dependent FMAs ({fma} each)"
        )
    return [
        ("floor", floor),
        ("shuffle step, for comparison", time(record.shuffle_step_us)),
        ("shared-memory step, for comparison", time(record.step_us)),
    ]


def _copy_bandwidth(record: RunRecord) -> str:
    if record.simulated:
        return "none: simulated"
    if record.copy_gbps is None:
        return "not measured"
    text = f"{number(record.copy_gbps, 4)} GB/s"
    samples = record.copy_samples_gbps
    if samples:
        low, high = number(min(samples), 4), number(max(samples), 4)
        text += f" ({low} to {high} over {plural(len(samples), 'sample')})"
    return text
