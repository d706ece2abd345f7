"""Traffic of a scenario's cases, three ways that are never mixed.

The model's bytes stand in every row; ``passes`` makes the traced rows and the hardware's. No row
has a latency. Kernels are traced in a worker, as a sweep's are, and profiled in a process of ncu's:
what they break, they break there.
"""

from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from gspn2bench import rungs, store
from gspn2bench.environment import collect
from gspn2bench.errors import UsageError
from gspn2bench.isolation import Workers
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.trace import SECTOR_BYTES
from gspn2bench.passes import Hardware, Pass, Plan, Tool, TraceJob
from gspn2bench.scenario import Case, Scenario
from gspn2bench.schema import SCHEMA_VERSION, Row, RunRecord, TrafficPlan

LIMIT_SECONDS: Final = 600.0
"""Longest time to trace one rung on one case."""
PASSES: Final[dict[Tool, tuple[Pass, ...]]] = {
    "trace": ("trace",),
    "ncu": ("warm", "cold"),
    "all": ("trace", "warm", "cold"),
}


def create(results: Path, scenario: Scenario, plan: Plan, command: list[str]) -> store.RunWriter:
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


def planned(record: RunRecord) -> Plan:
    """What a recorded run set out to find.

    Raises:
        UsageError: it is no run of ``traffic``.
    """
    made = record.traffic
    if made is None:
        raise UsageError(f"--resume: {record.run_id} was not made by gspn2bench traffic")
    cases = tuple(Case(**fields) for fields in made.cases)  # type: ignore[arg-type]
    references = tuple(rungs.references(made.rungs))
    return Plan(record.scenario, record.l2, cases, references, made.tool, record.seed)


def run(
    writer: store.RunWriter, plan: Plan, done: Sequence[Row] = ()
) -> Generator[list[Row], None, None]:
    """The rows of each trial, when those of the trials before it are there; all are on disk.

    Args:
        writer: of the run.
        plan: what to do.
        done: rows that the run has already, which come with their trials.
    """
    kept = {_key(row): row for row in done}
    hardware = Hardware(plan)
    with Workers(plan.scenario, Ceilings()) as workers:
        for case in plan.cases:
            trials: dict[str, list[Row]] = {rungs.find(each).id: [] for each in plan.rungs}
            for way in PASSES[plan.tool]:
                left = []
                for reference in plan.rungs:
                    key = (case.label, case.phase, rungs.find(reference).id, way)
                    if key in kept:
                        trials[key[2]].append(kept[key])
                    else:
                        left.append(reference)
                if not left:
                    continue
                if way == "trace":
                    rows = workers.rows(TraceJob(plan, case, tuple(left)), LIMIT_SECONDS)
                else:
                    rows = hardware.rows(case, left, way)
                for row in rows:
                    writer.add(row)
                    trials[row.rung].append(row)
            yield from trials.values()
    writer.update(finished_utc=store.utc_now())


def _key(row: Row) -> tuple[str, str, str, Pass]:
    """What tells a row from every other of its run."""
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
