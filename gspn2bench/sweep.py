"""From a scenario to a recorded run: the trials in turn, each row stored as it ends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gspn2bench import store, trial
from gspn2bench.backend import Backend
from gspn2bench.environment import collect
from gspn2bench.errors import unknown
from gspn2bench.kernels.contract import Rung
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure import ceilings
from gspn2bench.ranges import annotate
from gspn2bench.scenario import Case, Scenario
from gspn2bench.schema import SCHEMA_VERSION, Row, RunRecord


@dataclass(frozen=True)
class Step:
    """One trial of a sweep that is done, with its rows."""

    case: Case
    rung: Rung
    rows: list[Row]


def choose_rungs(ids: Iterable[str]) -> list[Rung]:
    """Rungs of the ladder by id, each once, in the order given.

    Raises:
        UsageError: an id that is not in the ladder; offers the nearest.
    """
    for name in ids:
        if name not in LADDER:
            raise unknown("rung", name, LADDER)
    return [LADDER[name] for name in dict.fromkeys(ids)]


def trials(cases: Sequence[Case], rungs: Sequence[Rung]) -> list[tuple[Case, Rung]]:
    """Every case with every rung, the rungs of a case one after the other."""
    return [(case, rung) for case in cases for rung in rungs]


def open_run(
    results: Path,
    scenario: Scenario,
    settings: trial.Settings,
    backend: Backend,
    command: list[str],
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
        command=command,
        started_utc=store.utc_now(),
        simulated=backend.simulated,
        simulated_reason=backend.reason,
        seed=settings.seed,
        l2=settings.l2,
        environment=collect(),
        published=scenario.published,
    )
    return store.RunWriter(path, record)


def run(
    writer: store.RunWriter, planned: Sequence[tuple[Case, Rung]], settings: trial.Settings
) -> Iterator[Step]:
    """Measure the machine, then do the trials in turn; each row is on disk before it is given."""
    with annotate("scenario", settings.scenario):
        bounds = ceilings.measure()
        writer.update(
            copy_gbps=bounds.copy_gbps,
            copy_samples_gbps=bounds.copy_samples_gbps,
            step_us=bounds.step_us,
        )
        for case, rung in planned:
            with annotate("case", case.label, rung.id):
                rows = trial.run(case, rung, settings, bounds)
            for row in rows:
                writer.add(row)
            yield Step(case, rung, rows)
    writer.update(finished_utc=store.utc_now())
