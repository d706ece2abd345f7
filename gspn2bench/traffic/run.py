"""Traffic of a scenario's cases, three ways that are never mixed.

The model's bytes stand in every row; ``passes`` makes the traced rows and the hardware's. No row
has a latency. Kernels are traced in a worker, as a sweep's are, and profiled in a process of ncu's:
what they break, they break there.
"""

from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from gspn2bench import registry
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import UsageError
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.records import store
from gspn2bench.records.schema import SCHEMA_VERSION, Row, RunRecord, TrafficPlan
from gspn2bench.run.worker import WorkerSupervisor
from gspn2bench.system.environment import collect
from gspn2bench.traffic.ncu_target import Trial
from gspn2bench.traffic.rows import Hardware, Pass, Tool, TraceJob, TrafficSweep, by_case
from gspn2bench.traffic.tracer import SECTOR_BYTES

LIMIT_SECONDS: Final = 600.0
"""Longest time to trace one rung on one case."""
TRIALS: Final = 64
"""Most trials of several cases that one process of ncu's looks at."""
PASSES: Final[dict[Tool, tuple[Pass, ...]]] = {
    "trace": ("trace",),
    "ncu": ("warm", "cold"),
    "all": ("trace", "warm", "cold"),
}
_Key = tuple[str, str, str, Pass]


def create(
    results: Path, scenario: Scenario, plan: TrafficSweep, command: list[str]
) -> store.RunWriter:
    """Make the run's folder and its run.json, before any work is done.

    Raises:
        UsageError: the folder can't be made or written.
    """
    path = store.create_folder(results, scenario.name)
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=path.name,
        scenario=scenario.name,
        title=scenario.title,
        description=scenario.description,
        source=scenario.source,
        base=registry.base_of(scenario, plan.rungs),
        command=command,
        started_utc=store.utc_now(),
        simulated=plan.tool == "trace",
        simulated_reason="traffic is traced in the simulator" if plan.tool == "trace" else None,
        seed=plan.seed,
        l2=scenario.l2,
        environment=collect(),
        traffic=TrafficPlan(
            cases=tuple(asdict(case) for case in plan.cases), rungs=plan.rungs, tool=plan.tool
        ),
    )
    return store.RunWriter(path, record)


def planned(record: RunRecord) -> TrafficSweep:
    """What a recorded run set out to find.

    Raises:
        UsageError: it is no run of ``traffic``.
    """
    made = record.traffic
    if made is None:
        raise UsageError(f"--resume: {record.run_id} was not made by gspn2bench traffic")
    cases = tuple(Case(**fields) for fields in made.cases)  # type: ignore[arg-type]
    references = tuple(registry.specs(made.rungs))
    return TrafficSweep(record.scenario, record.l2, cases, references, made.tool, record.seed)


def run(
    writer: store.RunWriter, plan: TrafficSweep, done: Sequence[Row] = ()
) -> Generator[list[Row], None, None]:
    """The rows of each trial, when those of the trials before it are there; all are on disk.

    Args:
        writer: of the run.
        plan: what to do.
        done: rows that the run has already, which come with their trials.
    """
    kept = {_key_of(row): row for row in done}
    with WorkerSupervisor(plan.scenario, Ceilings()) as workers:
        left = _rows(plan, workers, kept)
        for trial in plan.trials:
            keys = [_key(trial, way) for way in PASSES[plan.tool]]
            while not all(key in kept for key in keys):
                row = next(left)
                writer.add(row)
                kept[_key_of(row)] = row
            yield [kept[key] for key in keys]
    writer.update(finished_utc=store.utc_now())


def _rows(plan: TrafficSweep, workers: WorkerSupervisor, kept: Container[_Key]) -> Iterator[Row]:
    """The rows that are not kept yet, each as soon as it is known: group by group, pass by pass."""
    hardware = Hardware(plan)
    cases = max(1, TRIALS // len(plan.rungs))
    for first in range(0, len(plan.cases), cases):
        group = replace(plan, cases=plan.cases[first : first + cases]).trials
        for way in PASSES[plan.tool]:
            left = [trial for trial in group if _key(trial, way) not in kept]
            if way != "trace":
                yield from hardware.rows(left, way)
                continue
            for trials in by_case(left):
                job = TraceJob(plan, trials[0][0], tuple(reference for _, reference in trials))
                yield from workers.run(job, LIMIT_SECONDS)


def _key(trial: Trial, way: Pass) -> _Key:
    """What tells a row from every other of its run."""
    case, reference = trial
    return (case.label, case.phase, registry.find(reference).id, way)


def _key_of(row: Row) -> _Key:
    return (row.case, row.phase, row.rung, "trace" if row.simulated else row.l2)


def sector_bytes(row: Row) -> int | None:
    """Bytes of every sector of every load and store of a warp."""
    if row.sectors_load is None or row.sectors_store is None:
        return None
    return SECTOR_BYTES * (row.sectors_load + row.sectors_store)


def amplification(row: Row) -> float | None:
    """``sector_bytes`` over the model's bytes: 1 where nothing is wasted or read again."""
    moved = sector_bytes(row)
    return moved / row.bytes_model if moved is not None and row.bytes_model else None


def sectors_per_request(row: Row) -> float | None:
    """Mean sectors of a load or store of a warp."""
    moved = sector_bytes(row)
    if moved is None or row.requests_load is None or row.requests_store is None:
        return None
    requests = row.requests_load + row.requests_store
    return moved / SECTOR_BYTES / requests if requests else None
