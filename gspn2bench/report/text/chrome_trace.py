"""The timelines of a run's profiles as a trace for Perfetto and chrome://tracing.

Each profile is a process of the trace and each profiled trial a thread, which begins at 0. One call
of each trial is drawn: the call of median length.

Source of the format: "Trace Event Format", the JSON object with ``traceEvents``.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Launch, Profile, ProfiledTrial
from gspn2bench.report.files import write_own
from gspn2bench.report.formatting import count, printable

MARKER: Final = '"gspn2bench_run": {}'
"""Names the run of a trace, so only a trace of the same run is overwritten."""
NANOSECOND: Final = 3
"""Decimals of a time in microseconds."""


def render(run_id: str, profiles: Sequence[Profile]) -> str:
    """The trace as JSON. Times are microseconds.

    Raises:
        UsageError: no trial has a timeline; profiles of ncu have none.
    """
    events = [event for index, each in enumerate(profiles, 1) for event in _events(index, each)]
    if not events:
        hint = "its profiles are of ncu, which runs launches one by one" if profiles else "none"
        raise UsageError(
            f"trace: {run_id} has no profile with a timeline ({hint}); make one with "
            "`gspn2bench profile --tool nsys` and add it with `gspn2bench ingest`"
        )
    document = {
        "otherData": {"gspn2bench_run": run_id},
        "displayTimeUnit": "ns",
        "traceEvents": events,
    }
    return json.dumps(document, indent=0, allow_nan=False) + "\n"


def write(run_id: str, profiles: Sequence[Profile], path: Path) -> None:
    """Write the trace to a file; an earlier trace of the same run is replaced.

    Raises:
        UsageError: no trial has a timeline, the file is not a trace of this run, or it can't be
            written.
    """
    text = render(run_id, profiles)
    write_own(text, path, MARKER.format(json.dumps(run_id)), [run_id])


def _events(process: int, profile: Profile) -> Iterator[dict[str, Any]]:
    """The events of a profile: the names of its rows, then its launches."""
    trials = [trial for trial in profile.trials if _drawn(trial)]
    if not trials:
        return
    version = f" {profile.tool_version}" if profile.tool_version else ""
    yield _name("process_name", process, 0, f"{profile.tool}{version}, {profile.file}")
    for thread, trial in enumerate(trials, 1):
        yield _name("thread_name", process, thread, _title(trial))
        for number, launch in enumerate(_drawn(trial), 1):
            yield {
                "ph": "X",
                "name": printable(launch.name),
                "cat": launch.name.strip("[]") if launch.name.startswith("[") else "kernel",
                "pid": process,
                "tid": thread,
                "ts": round(launch.start_us or 0.0, NANOSECOND),
                "dur": round(launch.duration_us, NANOSECOND),
                "args": {"launch": number, "of": trial.launches},
            }


def _drawn(trial: ProfiledTrial) -> list[Launch]:
    return [launch for launch in trial.timeline if launch.start_us is not None]


def _title(trial: ProfiledTrial) -> str:
    mode = f" {trial.timing}" if trial.timing else ""
    shown = len(_drawn(trial))
    launches = count(trial.launches) if shown == trial.launches else f"first {count(shown)}"
    return f"{trial.rung} {trial.case} {trial.phase}{mode}, launches: {launches}"


def _name(kind: str, process: int, thread: int, text: str) -> dict[str, Any]:
    return {
        "ph": "M",
        "name": kind,
        "pid": process,
        "tid": thread,
        "args": {"name": printable(text)},
    }
