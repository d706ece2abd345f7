"""From a trace to the profile that a run stores: matched with its rows, then counted per call."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from gspn2bench.errors import UsageError
from gspn2bench.label import Label
from gspn2bench.problem import SCAN_PHASES
from gspn2bench.profile.trace import ProfilerTrace, TracedLaunch, of_ladder, rung_of
from gspn2bench.records.schema import SCHEMA_VERSION, Launch, Profile, ProfiledTrial, Row
from gspn2bench.records.store import Run, utc_now

MAX_LAUNCHES: Final = 2048
"""Most launches of a timeline: two of r01's calls on 1024 lines."""
MAX_NAMES: Final = 4
"""Most kernels that an error names."""

Call = Sequence[TracedLaunch]


def summarise(trace: ProfilerTrace, file: Path, run: Run) -> Profile:
    """The profile of a trace of cases of a run.

    Args:
        trace: the trace that was read from ``file``.
        file: the file that the user named; the profile stores its name and hash.
        run: the run; its rows have the number of launches per call.

    Raises:
        UsageError: the trace does not match the run. It has a different GPU or scenario, a case,
            rung or kernel that is not in the run, or launches that are not whole calls.
    """
    _check_machine(trace, run)
    trials = tuple(
        _trial(trace, label, launches, run) for label, launches in trace.launches.items()
    )
    return Profile(
        schema_version=SCHEMA_VERSION,
        tool=trace.tool,
        tool_version=trace.tool_version,
        gpu=run.record.environment.gpu_name if trace.gpus else None,
        file=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        added_utc=utc_now(),
        trials=trials,
    )


def span_ns(call: Call) -> int:
    """Nanoseconds from a call's first start to its last end."""
    starts = [launch.start_ns or 0 for launch in call]
    return max(launch.end_ns for launch in call) - min(starts)


def gap_ns(call: Call) -> int:
    """Nanoseconds of the span in which no stream was busy."""
    idle, busy_until = 0, None
    for launch in sorted(call, key=lambda launch: launch.start_ns or 0):
        start = launch.start_ns or 0
        if busy_until is not None and start > busy_until:
            idle += start - busy_until
        busy_until = max(busy_until or 0, launch.end_ns)
    return idle


def _check_machine(trace: ProfilerTrace, run: Run) -> None:
    ours = run.record.environment.gpu_name
    if run.record.simulated or ours is None:
        raise UsageError(
            f"profile: {run.path.name} was measured without a GPU, so no profile matches it"
        )
    if trace.gpus and ours not in trace.gpus:
        raise UsageError(
            f"profile: recorded on {', '.join(trace.gpus)}, but {run.path.name} was measured on "
            f"{ours}"
        )
    if others := trace.scenarios - {run.record.scenario}:
        raise UsageError(
            f"profile: its scenario is {', '.join(sorted(others))}, but that of {run.path.name} is "
            f"{run.record.scenario}"
        )


def _trial(
    trace: ProfilerTrace, label: Label | None, launches: list[TracedLaunch], run: Run
) -> ProfiledTrial:
    _check_kernels(launches, label, run, whole=trace.tool == "nsys")
    row = _row(label, launches, run)
    expected = row.launches_expected or row.launches_observed
    name = f"{row.rung} {row.case} {row.phase}"
    if not expected:
        raise UsageError(
            f"profile: {run.path.name} has no launch count for {name}; add the report to a run "
            "that was measured without a profiler: gspn2bench ingest FILE RUN"
        )
    if trace.tool == "nsys":
        calls = _calls(launches, expected, name)
    else:  # ncu stops after a number of launches, perhaps in the middle of a call
        whole = len(launches) // expected * expected
        calls = _calls(launches[:whole], expected, name) if whole else [launches]
    launches = [launch for call in calls for launch in call]
    timed = all(launch.start_ns is not None for launch in launches)
    return ProfiledTrial(
        case=row.case,
        rung=row.rung,
        phase=row.phase,
        timing=label.timing if label else None,
        calls=len(calls),
        launches=len(calls[0]),
        launches_expected=expected,
        gpu_ms=sum(launch.duration_ns for launch in launches) / len(calls) / 1e6,
        span_ms=mean(map(span_ns, calls)) / 1e6 if timed else None,
        gap_ms=mean(map(gap_ns, calls)) / 1e6 if timed else None,
        timeline=_timeline(calls, timed),
    )


def _check_kernels(
    launches: Iterable[TracedLaunch], label: Label | None, run: Run, *, whole: bool
) -> None:
    """Check that kernels of the ladder match the label of the range and the rungs of the run.

    Modules, baselines and users' rungs may launch kernels of any rung of the ladder. For these,
    only the phase is checked.

    Args:
        launches: of one trial.
        label: of its range.
        run: the run.
        whole: whether these are all launches of the range; a rung of the ladder then has a kernel
            of its own among them.
    """
    known = {row.rung for row in run.rows}
    own = label is None or of_ladder(label.rung)
    for name in dict.fromkeys(launch.name for launch in launches):
        rung, phase = rung_of(name) or (None, None)
        if rung is None:
            continue
        if own and rung not in known:
            raise UsageError(
                f"profile: kernel {name} is of {rung}, which is not in {run.path.name}"
            )
        if label is None:
            continue
        if (own and rung != label.rung) or phase not in (None, *SCAN_PHASES[label.phase]):
            raise UsageError(f"profile: kernel {name} does not belong in the range {str(label)!r}")
    if whole and label is not None and own:
        origins = (rung_of(launch.name) for launch in launches)
        if not any(origin is not None and origin[0] == label.rung for origin in origins):
            raise UsageError(f"profile: no kernel of {label.rung} in the range {str(label)!r}")


def _row(label: Label | None, launches: Iterable[TracedLaunch], run: Run) -> Row:
    """A row of the trial: the row of the label, or the only row that matches the kernel names."""
    if label is not None:
        for row in run.rows:
            if (row.case, row.rung, row.phase) == (label.case, label.rung, label.phase):
                return row
        raise UsageError(f"profile: {run.path.name} has no row for {label}")
    origins = {origin for launch in launches if (origin := rung_of(launch.name))}
    rungs = {rung for rung, _ in origins}
    phases = {phase for _, phase in origins if phase}
    matches = {
        (row.case, row.rung, row.phase): row
        for row in run.rows
        if row.rung in rungs and (not phases or row.phase in phases)
    }
    if len(matches) != 1:
        raise UsageError(
            f"profile: its range measure does not name the case, and {len(matches)} cases of "
            f"{run.path.name} match its kernels; profile one case with `gspn2bench profile`"
        )
    return next(iter(matches.values()))


def _calls(launches: Call, expected: int, name: str) -> list[Call]:
    calls, rest = divmod(len(launches), expected)
    if rest or not calls:
        raise UsageError(
            f"profile: {len(launches)} launches of {name} are not a whole number of calls of "
            f"{expected}"
        )
    parts = [launches[i * expected : (i + 1) * expected] for i in range(calls)]
    first, *others = (Counter(launch.name for launch in part) for part in parts)
    for number, other in enumerate(others, 2):
        if other != first:
            different = sorted((other - first) | (first - other))
            raise UsageError(
                f"profile: call {number} of {name} does not launch the kernels of call 1: "
                f"{', '.join(different[:MAX_NAMES])}"
            )
    return parts


def _timeline(calls: list[Call], timed: bool) -> tuple[Launch, ...]:
    typical = sorted(calls, key=span_ns)[len(calls) // 2] if timed else calls[0]
    begin = typical[0].start_ns or 0
    return tuple(
        Launch(
            name=launch.name,
            start_us=None if launch.start_ns is None else (launch.start_ns - begin) / 1e3,
            duration_us=launch.duration_ns / 1e3,
        )
        for launch in typical[:MAX_LAUNCHES]
    )
