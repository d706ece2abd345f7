"""The folder of a new run and its run.json, and the cases that a recorded plan holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gspn2bench import registry
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import check_utf8
from gspn2bench.records import store
from gspn2bench.records.schema import SCHEMA_VERSION, L2State, RunRecord, SweepPlan, TrafficPlan
from gspn2bench.system.backend import Backend
from gspn2bench.system.environment import collect


def create(
    results: Path,
    scenario: Scenario,
    plan: SweepPlan | TrafficPlan,
    *,
    backend: Backend,
    seed: int,
    l2: L2State,
    command: list[str],
) -> store.RunWriter:
    """Make the run's folder and its run.json, before any work is done.

    Args:
        results: folder for the run's folder.
        scenario: gives the title, the source, the base and the published figures.
        plan: the work that a resumed run completes.
        backend: where kernels run.
        seed: of the inputs.
        l2: state of the L2 cache when a call starts.
        command: the exact command line.

    Raises:
        UsageError: the folder can't be made or written, or run.json would hold a text that is not
            UTF-8, such as a word of the command. No folder is made then.
    """
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id="",
        scenario=scenario.name,
        title=scenario.title,
        description=scenario.description,
        source=scenario.source,
        base=registry.base_of(scenario, plan.rungs),
        command=command,
        started_utc=store.utc_now(),
        simulated=backend.simulated,
        simulated_reason=backend.reason,
        seed=seed,
        l2=l2,
        environment=collect(),
        published=scenario.published if isinstance(plan, SweepPlan) else (),
        plan=plan if isinstance(plan, SweepPlan) else None,
        traffic=plan if isinstance(plan, TrafficPlan) else None,
    )
    _check_texts("run", record.model_dump())
    path = store.create_folder(results, scenario.name)
    return store.RunWriter(path, record.model_copy(update={"run_id": path.name}))


def fields_of(cases: Sequence[Case]) -> tuple[dict[str, Any], ...]:
    """Cases as a plan records them."""
    return tuple(asdict(case) for case in cases)


def cases_of(plan: SweepPlan | TrafficPlan) -> tuple[Case, ...]:
    """The cases of a recorded plan, in order."""
    return tuple(Case(**fields) for fields in plan.cases)  # type: ignore[arg-type]


def _check_texts(name: str, value: object) -> None:
    """Check that every text of a document is UTF-8.

    Raises:
        UsageError: one is not; the message names its field.
    """
    if isinstance(value, str):
        check_utf8(name, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_utf8(name, str(key))
            _check_texts(str(key), item)
    elif isinstance(value, Sequence):
        for item in value:
            _check_texts(name, item)
