"""Traffic of a scenario's cases, three ways that are never mixed.

The model's bytes stand in every row. Traced rows are simulated ones: the requests and sectors that
the kernels ask for. Hardware rows are what ncu counted on a GPU, with the caches left as they are
(l2 "warm") and flushed before each kernel ("cold"). No row has a latency.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gspn2bench import gate, once, rungs, store, trial
from gspn2bench.environment import collect
from gspn2bench.measure import counters
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.trace import SECTOR_BYTES, Trace, trace
from gspn2bench.scenario import Case, Scenario
from gspn2bench.schema import SCHEMA_VERSION, L2State, Row, RunRecord, Status
from gspn2bench.workload import Workload

Tool = Literal["trace", "ncu", "all"]

TRACED_ELEMENTS: Final = 2**13
"""Largest batch * channels * height * width to trace, over all directions: about half a minute."""
CACHES: Final[dict[L2State, counters.CacheControl]] = {"warm": "none", "cold": "all"}
"""ncu's --cache-control by the state of the L2 that it makes."""

UNAVAILABLE: Final = "hardware counters unavailable: "
"""How the reason of a row begins whose case ncu could not profile."""


@dataclass(frozen=True)
class Plan:
    """What is to be found out.

    Args:
        scenario: that the cases are of.
        cases: in order.
        rungs: references (``rungs.find``), in order; all of them take a case before the next.
        tool: "trace", "ncu" or "all".
        seed: of the inputs.
    """

    scenario: Scenario
    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    tool: Tool
    seed: int

    @property
    def trials(self) -> list[tuple[Case, str]]:
        """Every case with every rung."""
        return [(case, reference) for case in self.cases for reference in self.rungs]


def create(results: Path, plan: Plan, command: list[str]) -> store.RunWriter:
    """Make the run's folder and its run.json, before any work is done.

    Raises:
        UsageError: the folder can't be made or written.
    """
    path = store.create_folder(results, plan.scenario.name)
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=path.name,
        scenario=plan.scenario.name,
        title=plan.scenario.title,
        description=plan.scenario.description,
        source=plan.scenario.source,
        command=command,
        started_utc=store.utc_now(),
        simulated=plan.tool == "trace",
        simulated_reason="traffic is traced in the simulator" if plan.tool == "trace" else None,
        seed=plan.seed,
        l2=plan.scenario.l2,
        environment=collect(),
    )
    return store.RunWriter(path, record)


def run(writer: store.RunWriter, plan: Plan) -> Iterator[list[Row]]:
    """The rows of each trial; each is on disk before it is given."""
    for case, reference in plan.trials:
        rows = []
        for row in _rows(plan, case, reference):
            writer.add(row)
            rows.append(row)
        yield rows
    writer.update(finished_utc=store.utc_now())


def _rows(plan: Plan, case: Case, reference: str) -> Iterator[Row]:
    if plan.tool != "ncu":
        yield traced(plan, case, reference)
    if plan.tool != "trace":
        for l2 in CACHES:
            yield counted(plan, case, reference, l2)


def traced(plan: Plan, case: Case, reference: str) -> Row:
    """Trace one call, which is the gate's too.

    A case that is too large is ``skipped``, outputs that are wrong make the row ``incorrect``, and
    launches other than declared ``invalid``; each row says why and has no traffic.
    """
    work = Workload.of(case, rungs.find(reference))
    elements = sum(problem.slices * problem.plane for problem in work.problems)
    if reason := work.unsupported:
        return _row(plan, case, reference, "skipped", reason)
    if elements > TRACED_ELEMENTS:
        reason = f"tracer: {elements} elements are above {TRACED_ELEMENTS}"
        return _row(plan, case, reference, "skipped", reason)
    try:
        return _traced(plan, case, reference, work)
    except Exception as error:
        reason = f"{type(error).__name__}: {trial.first_line(error)}"
        return _row(plan, case, reference, "failed", reason)


def _traced(plan: Plan, case: Case, reference: str, work: Workload) -> Row:
    operands = work.operands("cpu", plan.seed)
    call = work.bind(operands)
    found: list[Trace] = []

    def traced_call() -> None:
        found.append(trace(call, {}))

    verdict = gate.check_all(list(zip(work.problems, operands, strict=True)), traced_call)
    facts: dict[str, Any] = {
        "launches_observed": found[0].launches,
        "gate_error": verdict.error,
        "gate_tolerance": verdict.tolerance,
        "gate_slices": verdict.slices,
    }
    if not verdict.passed:
        return _row(plan, case, reference, "incorrect", verdict.reason, **facts)
    if found[0].launches != work.launches:
        reason = f"launches: {found[0].launches} observed, {work.launches} declared"
        return _row(plan, case, reference, "invalid", reason, **facts)
    total = found[0].total
    return _row(
        plan,
        case,
        reference,
        "ok",
        **facts,
        bytes_traced=total.sector_bytes,
        bytes_touched=total.touched_bytes,
        bytes_reread=total.reread_bytes,
        sectors_load=total.load_sectors,
        sectors_store=total.store_sectors,
        requests_load=total.load_requests,
        requests_store=total.store_requests,
    )


def counted(plan: Plan, case: Case, reference: str, l2: L2State) -> Row:
    """Profile one call with ncu; the row is ``skipped`` where that can't be done, and says why."""
    facts: dict[str, Any] = {"simulated": False, "l2": l2}
    work = Workload.of(case, rungs.find(reference))
    if reason := work.unsupported:
        return _row(plan, case, reference, "skipped", reason, **facts)
    try:
        program = once.program(case, reference, plan.seed)
        found = counters.measure(counters.find(), CACHES[l2], program)
    except counters.UnavailableError as error:
        return _row(plan, case, reference, "skipped", f"{UNAVAILABLE}{error}", **facts)
    facts["launches_observed"] = found.launches
    if found.launches != work.launches:
        reason = f"launches: {found.launches} seen by ncu, {work.launches} declared"
        return _row(plan, case, reference, "invalid", reason, **facts)
    return _row(
        plan,
        case,
        reference,
        "ok",
        **facts,
        bytes_dram=found.dram_read_bytes + found.dram_write_bytes,
        sectors_load=found.load_sectors,
        sectors_store=found.store_sectors,
        requests_load=found.load_requests,
        requests_store=found.store_requests,
        sectors_l2_read=found.l2_read_sectors,
        sectors_l2_write=found.l2_write_sectors,
    )


def _row(
    plan: Plan, case: Case, reference: str, status: Status, reason: str | None = None, **facts: Any
) -> Row:
    settings = trial.Settings(plan.scenario.name, ("device",), plan.scenario.l2, plan.seed)
    rung = rungs.find(reference)
    (row,) = trial.without_number(case, rung, settings, Ceilings(), status, reason or "")
    return Row.model_validate(row.model_dump() | {"reason": reason} | facts)


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


def is_unavailable(row: Row) -> bool:
    """Whether the row is there to say why the hardware's counters are not."""
    return row.status == "skipped" and (row.reason or "").startswith(UNAVAILABLE)
