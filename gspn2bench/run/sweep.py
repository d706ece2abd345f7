"""From a scenario to a recorded run: a case after the other, each row stored as it ends."""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gspn2bench import registry
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import UsageError
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Budget
from gspn2bench.records import store
from gspn2bench.records.schema import SCHEMA_VERSION, Row, RunRecord, SweepPlan
from gspn2bench.registry import Candidate
from gspn2bench.run import trial
from gspn2bench.run.interleave import CaseJob
from gspn2bench.run.worker import Watch, WorkerSupervisor, unwatched
from gspn2bench.system.backend import Backend
from gspn2bench.system.environment import collect


@dataclass(frozen=True)
class Sweep:
    """What is to be run, and how.

    Args:
        cases: in order.
        rungs: references (``registry.find``), in order; all of them take a case before the next.
        settings: how to measure.
        limit_s: longest time for one rung on one case, all of its turns together, seconds.
    """

    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    settings: trial.Settings
    limit_s: float

    @property
    def trials(self) -> list[tuple[Case, str]]:
        """Every case with every rung that runs its part, those of a case one after the other."""
        return registry.trials(self.cases, self.rungs)


@dataclass(frozen=True)
class Step:
    """One trial of a sweep that is done, with its rows."""

    case: Case
    rung: Candidate
    rows: list[Row]


def create(
    results: Path, scenario: Scenario, sweep: Sweep, backend: Backend, command: list[str]
) -> store.RunWriter:
    """Make the run's folder and its run.json, before any work is done.

    Raises:
        UsageError: the folder can't be made or written.
    """
    path = store.create_folder(results, scenario.name)
    settings = sweep.settings
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=path.name,
        scenario=scenario.name,
        title=scenario.title,
        description=scenario.description,
        source=scenario.source,
        base=registry.base_of(scenario, sweep.rungs),
        command=command,
        started_utc=store.utc_now(),
        simulated=backend.simulated,
        simulated_reason=backend.reason,
        seed=settings.seed,
        l2=settings.l2,
        environment=collect(),
        published=scenario.published,
        plan=SweepPlan(
            cases=tuple(asdict(case) for case in sweep.cases),
            rungs=sweep.rungs,
            ids=tuple(registry.find(reference).id for reference in sweep.rungs),
            timings=settings.timings,
            samples=settings.budget.samples,
            seconds=settings.budget.seconds,
            limit_s=sweep.limit_s,
        ),
    )
    return store.RunWriter(path, record)


def planned(record: RunRecord) -> Sweep:
    """The sweep that a recorded run set out to do.

    Raises:
        UsageError: the run has no plan.
    """
    plan = record.plan
    if plan is None:
        other = "; it is one of gspn2bench traffic --resume" if record.traffic else ""
        raise UsageError(f"--resume: {record.run_id} has no plan to go on with{other}")
    settings = trial.Settings(
        scenario=record.scenario,
        timings=plan.timings,
        l2=record.l2,
        seed=record.seed,
        budget=Budget(plan.samples, plan.seconds),
    )
    cases = tuple(Case(**fields) for fields in plan.cases)  # type: ignore[arg-type]
    return Sweep(cases, tuple(registry.specs(plan.rungs)), settings, plan.limit_s)


def run(
    writer: store.RunWriter,
    sweep: Sweep,
    done: Sequence[Row] = (),
    watch: Watch = unwatched,
) -> Generator[Step, None, None]:
    """Do the trials; each row is on disk before the next is begun.

    The rungs of a case are measured in turn, so that their rows come mixed; a step is given when
    its own rows and those of the steps before it are there.

    Args:
        writer: of the run.
        sweep: what to do.
        done: rows that the run has already; their trials, or what is left of them, come with them.
        watch: told the id of each rung whose turn it is.
    """
    kept = {_key(row): row for row in done}
    with _workers(writer, sweep.settings.scenario) as workers:
        for case in sweep.cases:
            steps, todo = [], []
            for reference in registry.rungs_for_part(sweep.rungs, case.part):
                rung = registry.find(reference)
                had, settings = _left(case, rung, sweep.settings, workers.ceilings, kept)
                steps.append(Step(case, rung, had))
                if settings.recorded_timings:
                    todo.append((reference, settings))
            if todo:
                by_rung = {step.rung.id: step for step in steps}
                job = CaseJob(case, tuple(todo), workers.ceilings)
                for row in workers.rows(job, sweep.limit_s, watch):
                    writer.add(row)
                    by_rung[row.rung].rows.append(row)
                    while steps and len(steps[0].rows) == len(sweep.settings.recorded_timings):
                        yield steps.pop(0)
            yield from steps
    writer.update(finished_utc=store.utc_now())


def _workers(writer: store.RunWriter, scenario: str) -> WorkerSupervisor:
    """Workers that know the run's ceilings, which are measured and recorded if they are not yet."""
    record = writer.record
    known = Ceilings(record.copy_samples_gbps, record.step_us, record.l2_cold_ms, record.l2_warm_ms)
    if known.copy_gbps is not None or record.simulated:
        return WorkerSupervisor(scenario, known)
    workers = WorkerSupervisor(scenario)
    found = workers.ceilings
    if found.copy_gbps is not None:
        writer.update(
            copy_gbps=found.copy_gbps,
            copy_samples_gbps=found.copy_samples_gbps,
            step_us=found.step_us,
            l2_cold_ms=found.l2_cold_ms,
            l2_warm_ms=found.l2_warm_ms,
        )
    return workers


def _key(row: Row) -> tuple[object, ...]:
    """What tells a row from every other of its run."""
    return (row.case, row.rung, row.phase, row.timing)


def _left(
    case: Case,
    rung: Candidate,
    settings: trial.Settings,
    ceilings: Ceilings,
    kept: dict[tuple[object, ...], Row],
) -> tuple[list[Row], trial.Settings]:
    """The rows that a trial has already, and the settings for what it has not."""
    wanted = trial.unmeasured_rows(case, rung, settings, ceilings, "not_run", "")
    had = [kept[_key(row)] for row in wanted if _key(row) in kept]
    left = tuple(row.timing for row in wanted if _key(row) not in kept)
    return had, replace(settings, timings=left)
