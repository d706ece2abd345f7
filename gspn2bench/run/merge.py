"""Join the runs of the shards of one sweep into one run, or name what is missing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from gspn2bench.cases.scenario import Case
from gspn2bench.cases.shard import shard_of
from gspn2bench.errors import UsageError
from gspn2bench.records import store
from gspn2bench.records.schema import Row, RunRecord, Shard, SweepPlan
from gspn2bench.records.store import Run

MOST: Final = 3
"""Most cases that a line about missing work names."""

CEILINGS: Final = (
    "copy_gbps",
    "fma_us",
    "launch_us",
    "shuffle_step_us",
    "step_us",
    "l2_cold_ms",
    "l2_warm_ms",
)
"""Measured limits of the machine, one number per run."""


def _source(record: RunRecord) -> str | None:
    """The hash of the code, without which two runs cannot be known to agree."""
    source = record.environment.source
    return None if source is None else source.sha256


SAME: Final[dict[str, Callable[[RunRecord], object]]] = {
    "scenario": lambda record: record.scenario,
    "seed": lambda record: record.seed,
    "source": _source,
    "state of the L2 cache": lambda record: record.l2,
    "backend": lambda record: "simulator" if record.simulated else "GPU",
    "GPU": lambda record: record.environment.gpu_name,
    "driver": lambda record: record.environment.driver,
    "base": lambda record: record.base,
}
"""By name, what the runs of one sweep have in common; the first difference is reported."""


@dataclass(frozen=True)
class Merge:
    """The runs of one sweep, checked.

    Args:
        record: of the merged run; it has no id and no command yet.
        rows: of all runs, in the order of the cases of the plan.
        missing: one line per shard that is absent or not finished; empty if every row is there.
    """

    record: RunRecord
    rows: tuple[Row, ...]
    missing: tuple[str, ...]


def join(runs: Sequence[Run]) -> Merge:
    """Check that runs are shards of one sweep and put their rows together.

    Args:
        runs: at least one, in any order.

    Raises:
        UsageError: a run is not a shard, is torn, or has an older schema version; two runs differ
            in the scenario, the seed, the source, the machine's model, the cases or the settings;
            or two runs hold the same shard.
    """
    first = runs[0]
    by_index: dict[int, Run] = {}
    for run in runs:
        shard = _shard(run)
        _check_readable(run)
        _check_same(first, run)
        if shard.index in by_index:
            raise UsageError(
                f"merge: {by_index[shard.index].record.run_id} and {run.record.run_id} are both "
                f"shard {shard}"
            )
        by_index[shard.index] = run
    plan = _plan(first)
    ordered = [by_index[index] for index in sorted(by_index)]
    rows = tuple(_in_order(ordered, _cases(plan)))
    missing = tuple(_missing(plan, by_index))
    return Merge(_record(ordered, complete=not missing), rows, missing)


def write(merge: Merge, results: Path, command: list[str]) -> Path:
    """Write a merged run to a new folder, and return the folder.

    Raises:
        UsageError: the folder cannot be created or written.
    """
    path = store.create_folder(results, merge.record.scenario)
    record = merge.record.model_copy(update={"run_id": path.name, "command": command})
    with store.RunWriter(path, record) as writer:
        writer.add_all(merge.rows)
    return path


def _plan(run: Run) -> SweepPlan:
    if run.record.plan is None:
        raise UsageError(f"merge: {run.record.run_id} is not a run of sweep")
    return run.record.plan


def _shard(run: Run) -> Shard:
    """The shard of a run.

    Raises:
        UsageError: the run is not a shard.
    """
    shard = _plan(run).shard
    if shard is None:
        raise UsageError(f"merge: {run.record.run_id} was not recorded with --shard")
    return shard


def _check_readable(run: Run) -> None:
    version = store.schema_version(run.path)
    if version != run.record.schema_version:
        raise UsageError(
            f"merge: {run.record.run_id} has schema version {version}; only version "
            f"{run.record.schema_version} can be merged"
        )
    if run.torn:
        raise UsageError(
            f"merge: the last line of {run.record.run_id} is torn; "
            f"fix: gspn2bench sweep --resume {run.path}"
        )


def _check_same(first: Run, run: Run) -> None:
    """Check that two runs are shards of one sweep.

    Raises:
        UsageError: they are not; the message names the first difference.
    """
    ids = f"{first.record.run_id} and {run.record.run_id}"
    for name, fact in SAME.items():
        one, other = fact(first.record), fact(run.record)
        if one != other:
            raise UsageError(f"merge: the {name} differs: {ids} have {one} and {other}")
    one_plan, other_plan = _plan(first), _plan(run)
    if _shard(first).count != _shard(run).count:
        raise UsageError(
            f"merge: the number of shards differs: {ids} are {_shard(first)} and {_shard(run)}"
        )
    for field in SweepPlan.model_fields:
        if field != "shard" and getattr(one_plan, field) != getattr(other_plan, field):
            raise UsageError(f"merge: the {field} of the plan differ: {ids}")


def _cases(plan: SweepPlan) -> list[Case]:
    return [Case(**fields) for fields in plan.cases]  # type: ignore[arg-type]


def _key(case: Case) -> tuple[str, str]:
    return (case.label, case.phase)


def _in_order(runs: Sequence[Run], cases: Sequence[Case]) -> Iterator[Row]:
    """The rows of all runs, by case; within a case as they were recorded.

    Raises:
        UsageError: a run has a row twice, or a row of a case outside its shard.
    """
    positions = {_key(case): position for position, case in enumerate(cases)}
    by_case: dict[int, list[Row]] = {}
    seen: set[tuple[object, ...]] = set()
    for run in runs:
        shard = _shard(run)
        for row in run.rows:
            position = positions.get((row.case, row.phase))
            if position is None or position % shard.count != shard.index - 1:
                raise UsageError(
                    f"merge: {run.record.run_id} has a row of a case that is not in shard {shard}: "
                    f"{row.case}, {row.phase}"
                )
            key = (position, row.rung, row.timing)
            if key in seen:
                raise UsageError(
                    f"merge: {run.record.run_id} has a row twice: {row.rung}, {row.case}, "
                    f"{row.phase}, {row.timing}"
                )
            seen.add(key)
            by_case.setdefault(position, []).append(row)
    for position in sorted(by_case):
        yield from by_case[position]


def _missing(plan: SweepPlan, by_index: dict[int, Run]) -> Iterator[str]:
    """One line per shard that is absent or not finished; an empty shard needs no run."""
    assert plan.shard is not None
    count = plan.shard.count
    cases = _cases(plan)
    for index in range(1, count + 1):
        shard = Shard(index=index, count=count)
        own = shard_of(cases, shard)
        if not own:
            return  # as are all later shards
        run = by_index.get(index)
        if run is None:
            yield f"shard {shard} is missing: {_named(own)}"
        elif run.record.finished_utc is None:
            done = {(row.case, row.phase) for row in run.rows}
            absent = [case for case in own if _key(case) not in done]
            rest = f"no rows of {_named(absent)}" if absent else "rows of its last case are missing"
            yield (
                f"shard {shard}, {run.record.run_id}, is not finished: {rest}; "
                f"resume: gspn2bench sweep --resume {run.path}"
            )


def _named(cases: Sequence[Case]) -> str:
    """The number of cases, and the first of them: "5 cases (N1 C8 64x64 float32 forward, ...)"."""
    first = ", ".join(f"{case.label} {case.phase}" for case in cases[:MOST])
    dots = ", ..." if len(cases) > MOST else ""
    return f"{len(cases):,} case{'' if len(cases) == 1 else 's'} ({first}{dots})"


def _record(runs: Sequence[Run], *, complete: bool) -> RunRecord:
    """The record of the merged run; ceilings are medians over the runs."""
    records = [run.record for run in runs]
    first = records[0]
    hosts = {record.environment.host for record in records}
    environment = first.environment
    if len(hosts) > 1:  # each row names its own
        environment = environment.model_copy(update={"host": None})
    changes: dict[str, Any] = {
        "run_id": "",
        "command": [],
        "started_utc": min(record.started_utc for record in records),
        "finished_utc": max(filter(None, (record.finished_utc for record in records)))
        if complete
        else None,
        "environment": environment,
        "copy_samples_gbps": tuple(
            sample for record in records for sample in record.copy_samples_gbps
        ),
        "plan": _plan(runs[0]).model_copy(update={"shard": None}),
        "merged": tuple(record.run_id for record in records),
    }
    for name in CEILINGS:
        known = [value for record in records if (value := getattr(record, name)) is not None]
        changes[name] = median(known) if known else None
    return first.model_copy(update=changes)
