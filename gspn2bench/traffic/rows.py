"""The rows of ``traffic``: one rung on one case, traced in the simulator or counted by ncu.

Traced rows are simulated. They have the requests and sectors of the kernels. Hardware rows have the
counts of ncu on a GPU, once with the caches left as they are (l2 "warm") and once with the caches
flushed before each kernel (l2 "cold").
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal

from gspn2bench import registry
from gspn2bench.cases.scenario import Case
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.records.schema import L2State, Row, Status
from gspn2bench.run.interleave import RungStarted
from gspn2bench.run.preflight import first_line
from gspn2bench.run.trial import Settings, unmeasured_rows
from gspn2bench.traffic import counters, ncu_target
from gspn2bench.traffic.counters import Counters
from gspn2bench.traffic.ncu_target import Trial
from gspn2bench.traffic.tracer import Trace, trace
from gspn2bench.workload import Workload, workload_of

Tool = Literal["trace", "ncu", "all"]
Method = Literal["trace", "warm", "cold"]
"""How a row is obtained: by the tracer, or by ncu with the L2 in this state."""

TRACED_ELEMENTS: Final = 2**13
"""Largest batch * channels * height * width to trace, over all directions; takes half a minute."""
CACHES: Final[dict[L2State, counters.CacheControl]] = {"warm": "none", "cold": "all"}
"""ncu's --cache-control, by the state of the L2 that it results in."""
UNAVAILABLE: Final = "hardware counters unavailable: "
"""Prefix of the reason of a row whose trial ncu could not profile."""


@dataclass(frozen=True)
class TrafficSweep:
    """The cases and rungs of a traffic run, and the settings.

    Args:
        scenario: name recorded in rows.
        l2: state of the L2 that the scenario sets; recorded in traced rows.
        cases: in order.
        rungs: specs (``registry.find``), in order. All rungs run a case before the next case.
        tool: "trace", "ncu" or "all".
        seed: for the random inputs.
    """

    scenario: str
    l2: L2State
    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    tool: Tool
    seed: int

    @property
    def trials(self) -> list[Trial]:
        """Every case with every rung that runs its part, case by case."""
        return registry.trials(self.cases, self.rungs)


@dataclass(frozen=True)
class TraceJob:
    """A job for a worker: trace rungs on one case.

    Args:
        plan: of the run.
        case: the case to trace.
        rungs: specs of the rungs.
    """

    plan: TrafficSweep
    case: Case
    rungs: tuple[str, ...]

    def run(self) -> Iterator[RungStarted | Row]:
        """Yield ``RungStarted`` and a row for each rung."""
        for spec in self.rungs:
            yield RungStarted(registry.find(spec).id)
            yield trace_rung(self.plan, self.case, spec)

    def remaining_after(self, row: Row) -> "TraceJob | None":
        """The job without the rung of a row; None if nothing remains."""
        remaining = tuple(spec for spec in self.rungs if registry.find(spec).id != row.rung)
        return replace(self, rungs=remaining) if remaining else None

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """Rows without traffic for a rung, by id; None for all rungs of the job."""
        return [
            _row(self.plan, self.case, spec, status, reason)
            for spec in self.rungs
            if rung in (None, registry.find(spec).id)
        ]


def trace_rung(plan: TrafficSweep, case: Case, spec: str) -> Row:
    """Trace one call of a rung; the gate checks the outputs of the same call.

    A row without traffic has a reason, and one of these statuses: ``skipped`` (the rung or the
    tracer cannot run the case), ``incorrect`` (the gate is red), ``invalid`` (launches differ from
    those declared) or ``failed`` (the rung raised an error).

    Args:
        plan: of the run.
        case: the case to trace.
        spec: of the rung.
    """
    work = workload_of(case, registry.find(spec))
    if reason := work.skip_reason:
        return _row(plan, case, spec, "skipped", reason)
    if work.launches is None:
        name = registry.find(spec).id
        reason = f"tracer: {name} runs library kernels, which cannot be traced"
        return _row(plan, case, spec, "skipped", reason)
    if work.elements > TRACED_ELEMENTS:
        reason = f"tracer: {work.elements} elements, limit {TRACED_ELEMENTS}"
        return _row(plan, case, spec, "skipped", reason)
    try:
        return _trace(plan, case, spec, work)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return _row(plan, case, spec, "failed", reason)


def _trace(plan: TrafficSweep, case: Case, spec: str, work: Workload[Any]) -> Row:
    operands = work.operands("cpu", plan.seed)
    call = work.bind(operands)
    traces: list[Trace] = []

    def traced_call() -> None:
        traces.append(trace(call))

    result = work.check(operands, traced_call)
    (traced,) = traces
    facts: dict[str, Any] = {
        "launches_observed": traced.launches,
        "gate_error": result.error,
        "gate_tolerance": result.tolerance,
        "gate_slices": result.slices,
    }
    if not result.passed:
        return _row(plan, case, spec, "incorrect", result.reason, **facts)
    if traced.launches != work.launches:
        reason = f"launches: {traced.launches} observed, {work.launches} declared"
        return _row(plan, case, spec, "invalid", reason, **facts)
    total = traced.total
    return _row(
        plan,
        case,
        spec,
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


class NcuProfiler:
    """Makes hardware rows: profiles many trials in one ncu process if possible.

    ncu takes longer to start than to profile a few kernels. If the process fails, or ncu's output
    does not separate the trials, it is repeated in smaller groups: per case, then per trial.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: TrafficSweep) -> None:
        self._plan = plan

    def rows(self, trials: Sequence[Trial], l2: L2State) -> Iterator[Row]:
        """Yield a row per trial; ``skipped`` with a reason if it cannot be profiled.

        Args:
            trials: case by case.
            l2: state of the L2 before each kernel.
        """
        runnable = []
        for case, spec in trials:
            if reason := workload_of(case, registry.find(spec)).skip_reason:
                yield self._row(case, spec, l2, "skipped", reason)
            else:
                runnable.append((case, spec))
        if runnable:
            yield from self._profile(runnable, l2)

    def _profile(self, trials: Sequence[Trial], l2: L2State) -> Iterator[Row]:
        program = ncu_target.program(trials, self._plan.seed)
        try:
            results = counters.measure(counters.find(), CACHES[l2], program, len(trials))
        except counters.ProgramError as error:
            if len(trials) == 1:
                yield self._unavailable(*trials[0], l2, error)
                return
            for group in _smaller_groups(trials):
                yield from self._profile(group, l2)
        except counters.UnavailableError as error:
            for trial in trials:
                yield self._unavailable(*trial, l2, error)
        else:
            for trial, result in zip(trials, results, strict=True):
                yield self._counter_row(*trial, l2, result)

    def _counter_row(self, case: Case, spec: str, l2: L2State, result: Counters | None) -> Row:
        expected = workload_of(case, registry.find(spec)).launches
        launches = 0 if result is None else result.launches
        if result is None or expected not in (None, launches):
            reason = f"launches: {launches} observed by ncu, {expected or 'none'} declared"
            return self._row(case, spec, l2, "invalid", reason, launches_observed=launches)
        return self._row(
            case,
            spec,
            l2,
            "ok",
            launches_observed=launches,
            bytes_dram=result.dram_read_bytes + result.dram_write_bytes,
            sectors_load=result.load_sectors,
            sectors_store=result.store_sectors,
            requests_load=result.load_requests,
            requests_store=result.store_requests,
            sectors_l2_read=result.l2_read_sectors,
            sectors_l2_write=result.l2_write_sectors,
        )

    def _unavailable(self, case: Case, spec: str, l2: L2State, error: Exception) -> Row:
        return self._row(case, spec, l2, "skipped", f"{UNAVAILABLE}{error}")

    def _row(
        self,
        case: Case,
        spec: str,
        l2: L2State,
        status: Status,
        reason: str | None = None,
        **facts: Any,
    ) -> Row:
        facts |= {"simulated": False, "l2": l2}
        return _row(self._plan, case, spec, status, reason, **facts)


def group_by_case(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Group consecutive trials of the same case."""
    return [list(group) for _, group in groupby(trials, key=itemgetter(0))]


def _smaller_groups(trials: Sequence[Trial]) -> list[list[Trial]]:
    """One group per case; if there is only one case, one group per trial."""
    cases = group_by_case(trials)
    return cases if len(cases) > 1 else [[trial] for trial in trials]


def _row(
    plan: TrafficSweep,
    case: Case,
    spec: str,
    status: Status,
    reason: str | None = None,
    **facts: Any,
) -> Row:
    settings = Settings(plan.scenario, ("device",), plan.l2, plan.seed)
    rung = registry.find(spec)
    (row,) = unmeasured_rows(case, rung, settings, Ceilings(), status, reason or "")
    return Row.model_validate(row.model_dump() | {"reason": reason} | facts)


def is_unavailable(row: Row) -> bool:
    """Whether a row only records why hardware counters are unavailable."""
    return row.status == "skipped" and (row.reason or "").startswith(UNAVAILABLE)
