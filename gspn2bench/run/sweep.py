"""Run a scenario case by case and store each row when it is complete."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from gspn2bench import registry
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import UsageError
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Budget
from gspn2bench.records import store
from gspn2bench.records.schema import Row, RunRecord, SweepPlan
from gspn2bench.registry import Candidate
from gspn2bench.run import recording, trial
from gspn2bench.run.cooling import Cooling
from gspn2bench.run.interleave import CaseJob
from gspn2bench.run.worker import RungObserver, WorkerSupervisor, ignore
from gspn2bench.system.backend import Backend


@dataclass(frozen=True)
class Sweep:
    """The cases and rungs to run, and the settings.

    Args:
        cases: in order.
        rungs: specs (``registry.find``), in order. All rungs run a case before the next case.
        settings: how to measure.
        limit_s: longest time for one rung on one case, all of its sample blocks together, seconds.
        cooling: the temperature at which a case may start; None for any.
    """

    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    settings: trial.Settings
    limit_s: float
    cooling: Cooling | None = None

    @property
    def trials(self) -> list[tuple[Case, str]]:
        """Every case with every rung that runs its part, case by case."""
        return registry.trials(self.cases, self.rungs)


@dataclass(frozen=True)
class FinishedTrial:
    """One rung on one case, with all of its rows."""

    case: Case
    rung: Candidate
    rows: list[Row]


def create(
    results: Path, scenario: Scenario, sweep: Sweep, backend: Backend, command: list[str]
) -> store.RunWriter:
    """Create the run's folder and run.json before any case runs.

    Raises:
        UsageError: the folder cannot be created or written.
    """
    settings = sweep.settings
    plan = SweepPlan(
        cases=recording.fields_of(sweep.cases),
        rungs=sweep.rungs,
        ids=tuple(registry.find(spec).id for spec in sweep.rungs),
        timings=settings.timings,
        samples=settings.budget.samples,
        seconds=settings.budget.seconds,
        limit_s=sweep.limit_s,
        cool_below_c=sweep.cooling.below_c if sweep.cooling else None,
        cool_limit_s=sweep.cooling.limit_s if sweep.cooling else None,
    )
    return recording.create(
        results,
        scenario,
        plan,
        backend=backend,
        seed=settings.seed,
        l2=settings.l2,
        command=command,
    )


def planned(record: RunRecord) -> Sweep:
    """The sweep that a recorded run was started with.

    Raises:
        UsageError: the run has no plan.
    """
    plan = record.plan
    if plan is None:
        hint = "; use gspn2bench traffic --resume" if record.traffic else ""
        raise UsageError(f"--resume: {record.run_id} has no plan to resume{hint}")
    settings = trial.Settings(
        scenario=record.scenario,
        timings=plan.timings,
        l2=record.l2,
        seed=record.seed,
        budget=Budget(plan.samples, plan.seconds),
    )
    specs = tuple(registry.specs(plan.rungs))
    cooling = None
    if plan.cool_below_c is not None and plan.cool_limit_s is not None:
        cooling = Cooling(plan.cool_below_c, plan.cool_limit_s)
    return Sweep(recording.cases_of(plan), specs, settings, plan.limit_s, cooling)


def run(
    writer: store.RunWriter,
    sweep: Sweep,
    done: Sequence[Row] = (),
    observer: RungObserver = ignore,
) -> Generator[FinishedTrial, None, None]:
    """Run a sweep and yield its trials in order. Each row is written to disk when it arrives.

    Rows of the rungs of a case arrive interleaved. A trial is yielded when it and all trials before
    it have all of their rows. If the GPU does not cool in time, the rows of a case are ``not_run``.

    Args:
        writer: of the run.
        sweep: the cases, rungs and settings.
        done: rows already recorded. They are not measured again, and their trials are yielded too.
        observer: called when a rung starts to run, and with a note while the GPU cools.
    """
    recorded = {_row_key(row): row for row in done}
    with _workers(writer, sweep.settings.scenario) as workers:
        for case in sweep.cases:
            trials, remaining = [], []
            for spec in registry.rungs_for_part(sweep.rungs, case.part):
                rung = registry.find(spec)
                rows, settings = _split_trial(
                    case, rung, sweep.settings, workers.ceilings, recorded
                )
                trials.append(FinishedTrial(case, rung, rows))
                if settings.recorded_timings:
                    remaining.append((spec, settings))
            if remaining:
                by_rung = {finished.rung.id: finished for finished in trials}
                job = CaseJob(case, tuple(remaining), workers.ceilings)
                for row in _rows(job, sweep, workers, observer):
                    writer.add(row)
                    by_rung[row.rung].rows.append(row)
                    while trials and len(trials[0].rows) == len(sweep.settings.recorded_timings):
                        yield trials.pop(0)
            yield from trials
    writer.update(finished_utc=store.utc_now())


def _rows(
    job: CaseJob, sweep: Sweep, workers: WorkerSupervisor, observer: RungObserver
) -> Iterator[Row]:
    """The rows of a case, which starts when the GPU is cool enough."""
    too_hot = sweep.cooling.wait(observer) if sweep.cooling else None
    if too_hot is not None:
        yield from job.rows_for_failure(None, "not_run", too_hot)
    else:
        yield from workers.run(job, sweep.limit_s, observer)


def _workers(writer: store.RunWriter, scenario: str) -> WorkerSupervisor:
    """A supervisor with the ceilings of the run, which are measured and recorded if missing."""
    record = writer.record
    known = Ceilings(**{field.name: getattr(record, field.name) for field in fields(Ceilings)})
    if known.copy_gbps is not None or record.simulated:
        return WorkerSupervisor(scenario, known)
    workers = WorkerSupervisor(scenario)
    measured = workers.ceilings
    if measured.copy_gbps is not None:
        writer.update(copy_gbps=measured.copy_gbps, **asdict(measured))
    return workers


def _row_key(row: Row) -> tuple[object, ...]:
    """The fields that identify a row within its run."""
    return (row.case, row.rung, row.phase, row.timing)


def _split_trial(
    case: Case,
    rung: Candidate,
    settings: trial.Settings,
    ceilings: Ceilings,
    recorded: dict[tuple[object, ...], Row],
) -> tuple[list[Row], trial.Settings]:
    """The recorded rows of a trial, and its settings with the timings that are not recorded."""
    expected = trial.unmeasured_rows(case, rung, settings, ceilings, "not_run", "")
    rows = [recorded[_row_key(row)] for row in expected if _row_key(row) in recorded]
    missing = tuple(row.timing for row in expected if _row_key(row) not in recorded)
    return rows, replace(settings, timings=missing)
