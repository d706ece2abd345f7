"""Record the traffic of a scenario's cases by three methods that are never mixed.

Every row has the bytes of the model; ``rows`` makes traced rows and hardware rows. No row has a
latency. Kernels are traced in a worker process and profiled in an ncu process, so a faulty kernel
cannot take down the run.
"""

from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gspn2bench import registry
from gspn2bench.cases.scenario import Scenario
from gspn2bench.errors import UsageError
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.records import store
from gspn2bench.records.schema import Row, RunRecord, TrafficPlan
from gspn2bench.run import recording
from gspn2bench.run.worker import WorkerSupervisor
from gspn2bench.system.backend import Backend
from gspn2bench.traffic.ncu_target import Trial
from gspn2bench.traffic.rows import Method, NcuProfiler, Tool, TraceJob, TrafficSweep, group_by_case
from gspn2bench.traffic.tracer import SECTOR_BYTES

LIMIT_SECONDS: Final = 600.0
"""Longest time to trace one rung on one case."""
TRIALS: Final = 64
"""Most trials per ncu process, unless a single case has more."""
METHODS: Final[dict[Tool, tuple[Method, ...]]] = {
    "trace": ("trace",),
    "ncu": ("warm", "cold"),
    "all": ("trace", "warm", "cold"),
}
"""The methods of each tool, in order."""
_Key = tuple[str, str, str, Method]
"""Case, phase, rung and method: the fields that identify a row within its run."""


def create(
    results: Path, scenario: Scenario, plan: TrafficSweep, command: list[str]
) -> store.RunWriter:
    """Create the run's folder and run.json before any case runs.

    Raises:
        UsageError: the folder cannot be created or written.
    """
    traced = plan.tool == "trace"
    return recording.create(
        results,
        scenario,
        TrafficPlan(cases=recording.fields_of(plan.cases), rungs=plan.rungs, tool=plan.tool),
        backend=Backend(traced, "traffic is traced in the simulator" if traced else None),
        seed=plan.seed,
        l2=scenario.l2,
        command=command,
    )


def planned(record: RunRecord) -> TrafficSweep:
    """The plan that a recorded run was started with.

    Raises:
        UsageError: the run was not made by ``gspn2bench traffic``.
    """
    plan = record.traffic
    if plan is None:
        raise UsageError(f"--resume: {record.run_id} was not made by gspn2bench traffic")
    specs = tuple(registry.specs(plan.rungs))
    cases = recording.cases_of(plan)
    return TrafficSweep(record.scenario, record.l2, cases, specs, plan.tool, record.seed)


def run(
    writer: store.RunWriter, plan: TrafficSweep, done: Sequence[Row] = ()
) -> Generator[list[Row], None, None]:
    """Run a plan and yield the rows of each trial, in order; yielded rows are on disk.

    Args:
        writer: of the run.
        plan: the cases, rungs and settings.
        done: rows already recorded. They are not obtained again and are yielded with their trials.
    """
    recorded = {_row_key(row): row for row in done}
    with WorkerSupervisor(plan.scenario, Ceilings()) as workers:
        missing = _missing_rows(plan, workers, recorded)
        for trial in plan.trials:
            keys = [_key(trial, method) for method in METHODS[plan.tool]]
            while not all(key in recorded for key in keys):
                row = next(missing)
                writer.add(row)
                recorded[_row_key(row)] = row
            yield [recorded[key] for key in keys]
    writer.update(finished_utc=store.utc_now())


def _missing_rows(
    plan: TrafficSweep, workers: WorkerSupervisor, recorded: Container[_Key]
) -> Iterator[Row]:
    """Obtain and yield the rows that are not recorded, group by group, method by method."""
    profiler = NcuProfiler(plan)
    cases = max(1, TRIALS // len(plan.rungs))
    for first in range(0, len(plan.cases), cases):
        group = replace(plan, cases=plan.cases[first : first + cases]).trials
        for method in METHODS[plan.tool]:
            remaining = [trial for trial in group if _key(trial, method) not in recorded]
            if method != "trace":
                yield from profiler.rows(remaining, method)
                continue
            for trials in group_by_case(remaining):
                job = TraceJob(plan, trials[0][0], tuple(spec for _, spec in trials))
                yield from workers.run(job, LIMIT_SECONDS)


def _key(trial: Trial, method: Method) -> _Key:
    case, spec = trial
    return (case.label, case.phase, registry.find(spec).id, method)


def _row_key(row: Row) -> _Key:
    return (row.case, row.phase, row.rung, "trace" if row.simulated else row.l2)


def sector_bytes(row: Row) -> int | None:
    """Bytes of all sectors of all loads and stores; None if they were not counted."""
    if row.sectors_load is None or row.sectors_store is None:
        return None
    return SECTOR_BYTES * (row.sectors_load + row.sectors_store)


def amplification(row: Row) -> float | None:
    """``sector_bytes`` over the model's bytes; 1 without waste or repeated reads."""
    total = sector_bytes(row)
    return total / row.bytes_model if total is not None and row.bytes_model else None


def sectors_per_request(row: Row) -> float | None:
    """Mean sectors per request, over loads and stores."""
    total = sector_bytes(row)
    if total is None or row.requests_load is None or row.requests_store is None:
        return None
    requests = row.requests_load + row.requests_store
    return total / SECTOR_BYTES / requests if requests else None
