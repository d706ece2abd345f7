"""From a scenario to a recorded run: the trials in turn, each row stored as it ends."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gspn2bench import rungs, store, trial
from gspn2bench.backend import Backend
from gspn2bench.environment import collect
from gspn2bench.errors import UsageError
from gspn2bench.isolation import GpuLostError, Job, TimeLimitError, Worker, WorkerDiedError
from gspn2bench.kernels.contract import Rung
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Budget
from gspn2bench.scenario import Case, Scenario
from gspn2bench.schema import SCHEMA_VERSION, Plan, Row, RunRecord


@dataclass(frozen=True)
class Sweep:
    """What is to be run, and how.

    Args:
        cases: in order.
        rungs: references (``rungs.find``), in order; all of them take a case before the next.
        settings: how to measure.
        limit_s: longest time for one rung on one case, seconds.
    """

    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    settings: trial.Settings
    limit_s: float

    @property
    def trials(self) -> list[tuple[Case, str]]:
        """Every case with every rung, the rungs of a case one after the other."""
        return [(case, reference) for case in self.cases for reference in self.rungs]


@dataclass(frozen=True)
class Step:
    """One trial of a sweep that is done, with its rows."""

    case: Case
    rung: Rung
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
        command=command,
        started_utc=store.utc_now(),
        simulated=backend.simulated,
        simulated_reason=backend.reason,
        seed=settings.seed,
        l2=settings.l2,
        environment=collect(),
        published=scenario.published,
        plan=Plan(
            cases=tuple(asdict(case) for case in sweep.cases),
            rungs=sweep.rungs,
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
        raise UsageError(f"--resume: {record.run_id} has no plan to go on with")
    settings = trial.Settings(
        scenario=record.scenario,
        timings=plan.timings,
        l2=record.l2,
        seed=record.seed,
        budget=Budget(plan.samples, plan.seconds),
    )
    cases = tuple(Case(**fields) for fields in plan.cases)  # type: ignore[arg-type]
    return Sweep(cases, tuple(rungs.references(plan.rungs)), settings, plan.limit_s)


def run(
    writer: store.RunWriter, sweep: Sweep, done: Sequence[Row] = ()
) -> Generator[Step, None, None]:
    """Do the trials in turn; each row is on disk before it is given.

    Args:
        writer: of the run.
        sweep: what to do.
        done: rows that the run has already; their trials, or what is left of them, come with them.
    """
    kept = {_key(row): row for row in done}
    with _Workers(writer, sweep.settings.scenario) as workers:
        for case, reference in sweep.trials:
            rung = rungs.find(reference)
            had, settings = _left(case, rung, sweep.settings, workers.ceilings, kept)
            rows = list(had)
            if settings.recorded_timings:
                job = Job(case, reference, settings, workers.ceilings)
                for row in workers.rows(job, rung, sweep.limit_s):
                    writer.add(row)
                    rows.append(row)
            yield Step(case, rung, rows)
    writer.update(finished_utc=store.utc_now())


class _Workers:
    """A worker, and the next one when it has died."""

    def __init__(self, writer: store.RunWriter, scenario: str) -> None:
        self._scenario = scenario
        self._worker: Worker | None = None
        self._lost: str | None = None
        record = writer.record
        self.ceilings = Ceilings(
            record.copy_samples_gbps, record.step_us, record.l2_cold_ms, record.l2_warm_ms
        )
        if self.ceilings.copy_gbps is None and not record.simulated:
            try:
                self._worker = Worker(scenario)
            except (GpuLostError, WorkerDiedError, TimeLimitError) as error:
                self._lost = str(error)
                return
            self.ceilings = self._worker.ceilings
            writer.update(
                copy_gbps=self.ceilings.copy_gbps,
                copy_samples_gbps=self.ceilings.copy_samples_gbps,
                step_us=self.ceilings.step_us,
                l2_cold_ms=self.ceilings.l2_cold_ms,
                l2_warm_ms=self.ceilings.l2_warm_ms,
            )

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._worker is not None:
            self._worker.stop()

    def rows(self, job: Job, rung: Rung, limit_s: float) -> Iterator[Row]:
        """The job's rows, however it ends."""
        left = list(job.settings.recorded_timings)
        try:
            for row in self._usable().run(job, limit_s):
                left.remove(row.timing)
                yield row
        except WorkerDiedError as error:
            ending: tuple[str, str] = ("failed", str(error))
        except TimeLimitError as error:
            ending = ("timeout", str(error))
        except GpuLostError as error:
            self._lost = str(error)
            ending = ("not_run", f"the GPU is lost: {error}")
        else:
            return
        settings = replace(job.settings, timings=tuple(left))
        for row in trial.without_number(job.case, rung, settings, job.ceilings, *ending):  # type: ignore[arg-type]
            if row.timing in left:
                yield row

    def _usable(self) -> Worker:
        if self._lost is not None:
            raise GpuLostError(self._lost)
        if self._worker is None or not self._worker.usable:
            self._worker = Worker(self._scenario, self.ceilings)
        return self._worker


def _key(row: Row) -> tuple[object, ...]:
    """What tells a row from every other of its run."""
    return (row.case, row.rung, row.phase, row.timing)


def _left(
    case: Case,
    rung: Rung,
    settings: trial.Settings,
    ceilings: Ceilings,
    kept: dict[tuple[object, ...], Row],
) -> tuple[list[Row], trial.Settings]:
    """The rows that a trial has already, and the settings for what it has not."""
    wanted = trial.without_number(case, rung, settings, ceilings, "not_run", "")
    had = [kept[_key(row)] for row in wanted if _key(row) in kept]
    left = tuple(row.timing for row in wanted if _key(row) not in kept)
    return had, replace(settings, timings=left)
