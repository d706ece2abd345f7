"""The rows of ``traffic``: a rung on a case traced in the simulator, or counted by ncu.

Traced rows are simulated ones: the requests and sectors that the kernels ask for. Hardware rows are
what ncu counted on a GPU, with the caches left as they are (l2 "warm") and flushed before each
kernel ("cold").
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
from gspn2bench.run import trial
from gspn2bench.run.interleave import RungStarted
from gspn2bench.run.preflight import first_line
from gspn2bench.traffic import counters, ncu_target
from gspn2bench.traffic.counters import Counters
from gspn2bench.traffic.ncu_target import Trial
from gspn2bench.traffic.tracer import Trace, trace
from gspn2bench.workload import Workload, workload_of

Tool = Literal["trace", "ncu", "all"]
Pass = Literal["trace", "warm", "cold"]
"""What makes a row: the tracer, or ncu with the L2 in that state."""

TRACED_ELEMENTS: Final = 2**13
"""Largest batch * channels * height * width to trace, over all directions: about half a minute."""
CACHES: Final[dict[L2State, counters.CacheControl]] = {"warm": "none", "cold": "all"}
"""ncu's --cache-control by the state of the L2 that it makes."""
UNAVAILABLE: Final = "hardware counters unavailable: "
"""How the reason of a row begins whose trial ncu could not profile."""


@dataclass(frozen=True)
class TrafficSweep:
    """What is to be found out.

    Args:
        scenario: name that rows carry.
        l2: that the scenario asks for; a traced row has no other.
        cases: in order.
        rungs: references (``registry.find``), in order; all of them take a case before the next.
        tool: "trace", "ncu" or "all".
        seed: of the inputs.
    """

    scenario: str
    l2: L2State
    cases: tuple[Case, ...]
    rungs: tuple[str, ...]
    tool: Tool
    seed: int

    @property
    def trials(self) -> list[Trial]:
        """Every case with every rung."""
        return registry.trials(self.cases, self.rungs)


@dataclass(frozen=True)
class TraceJob:
    """What a worker is asked to do: trace rungs, by their references, on a case."""

    plan: TrafficSweep
    case: Case
    rungs: tuple[str, ...]

    def run(self) -> Iterator[RungStarted | Row]:
        """A row for each rung, and whose turn it is."""
        for reference in self.rungs:
            yield RungStarted(registry.find(reference).id)
            yield traced(self.plan, self.case, reference)

    def remaining_after(self, row: Row) -> "TraceJob | None":
        """What is left when this row is done."""
        left = tuple(each for each in self.rungs if registry.find(each).id != row.rung)
        return replace(self, rungs=left) if left else None

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """The rows that are left of one rung, by its id, or of all, without a number."""
        return [
            _row(self.plan, self.case, reference, status, reason)
            for reference in self.rungs
            if rung in (None, registry.find(reference).id)
        ]


def traced(plan: TrafficSweep, case: Case, reference: str) -> Row:
    """Trace one call, which is the gate's too.

    A case that is too large is ``skipped``, outputs that are wrong make the row ``incorrect``, and
    launches other than declared ``invalid``; each row says why and has no traffic.
    """
    work = workload_of(case, registry.find(reference))
    if reason := work.unsupported:
        return _row(plan, case, reference, "skipped", reason)
    if work.launches is None:
        name = registry.find(reference).id
        reason = f"tracer: {name} runs a library's kernels: they can't be traced"
        return _row(plan, case, reference, "skipped", reason)
    if work.elements > TRACED_ELEMENTS:
        reason = f"tracer: {work.elements} elements are above {TRACED_ELEMENTS}"
        return _row(plan, case, reference, "skipped", reason)
    try:
        return _traced(plan, case, reference, work)
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return _row(plan, case, reference, "failed", reason)


def _traced(plan: TrafficSweep, case: Case, reference: str, work: Workload[Any]) -> Row:
    operands = work.operands("cpu", plan.seed)
    call = work.bind(operands)
    found: list[Trace] = []

    def traced_call() -> None:
        found.append(trace(call, {}))

    verdict = work.check(operands, traced_call)
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


class Hardware:
    """Rows of ncu's, of many trials from one process where that can be had.

    ncu takes longer to start than to look at a few kernels. A program that fails, or whose trials
    ncu can't tell apart, is run again in smaller parts: each case, then each trial by itself.
    """

    def __init__(self, plan: TrafficSweep) -> None:
        self._plan = plan

    def rows(self, trials: Sequence[Trial], l2: L2State) -> Iterator[Row]:
        """A row for each trial; ``skipped`` with the reason where it can't be profiled.

        Args:
            trials: those of a case one after the other.
            l2: how ncu is to leave the L2.
        """
        able = []
        for case, reference in trials:
            if reason := workload_of(case, registry.find(reference)).unsupported:
                yield self._row(case, reference, l2, "skipped", reason)
            else:
                able.append((case, reference))
        if able:
            yield from self._profiled(able, l2)

    def _profiled(self, trials: Sequence[Trial], l2: L2State) -> Iterator[Row]:
        program = ncu_target.program(trials, self._plan.seed)
        try:
            found = counters.measure(counters.find(), CACHES[l2], program, len(trials))
        except counters.ProgramError as error:
            if len(trials) == 1:
                yield self._unavailable(*trials[0], l2, error)
                return
            for part in _parts(trials):
                yield from self._profiled(part, l2)
        except counters.UnavailableError as error:
            for each in trials:
                yield self._unavailable(*each, l2, error)
        else:
            for each, seen in zip(trials, found, strict=True):
                yield self._counted(*each, l2, seen)

    def _counted(self, case: Case, reference: str, l2: L2State, found: Counters | None) -> Row:
        expected = workload_of(case, registry.find(reference)).launches
        launches = 0 if found is None else found.launches
        if found is None or expected not in (None, launches):
            reason = f"launches: {launches} seen by ncu, {expected or 'none'} declared"
            return self._row(case, reference, l2, "invalid", reason, launches_observed=launches)
        return self._row(
            case,
            reference,
            l2,
            "ok",
            launches_observed=launches,
            bytes_dram=found.dram_read_bytes + found.dram_write_bytes,
            sectors_load=found.load_sectors,
            sectors_store=found.store_sectors,
            requests_load=found.load_requests,
            requests_store=found.store_requests,
            sectors_l2_read=found.l2_read_sectors,
            sectors_l2_write=found.l2_write_sectors,
        )

    def _unavailable(self, case: Case, reference: str, l2: L2State, error: Exception) -> Row:
        return self._row(case, reference, l2, "skipped", f"{UNAVAILABLE}{error}")

    def _row(
        self,
        case: Case,
        reference: str,
        l2: L2State,
        status: Status,
        reason: str | None = None,
        **facts: Any,
    ) -> Row:
        facts |= {"simulated": False, "l2": l2}
        return _row(self._plan, case, reference, status, reason, **facts)


def by_case(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The trials of each case, which follow one another."""
    return [list(group) for _, group in groupby(trials, key=itemgetter(0))]


def _parts(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Those of each case; those of one case one by one."""
    cases = by_case(trials)
    return cases if len(cases) > 1 else [[each] for each in trials]


def _row(
    plan: TrafficSweep,
    case: Case,
    reference: str,
    status: Status,
    reason: str | None = None,
    **facts: Any,
) -> Row:
    settings = trial.Settings(plan.scenario, ("device",), plan.l2, plan.seed)
    rung = registry.find(reference)
    (row,) = trial.unmeasured_rows(case, rung, settings, Ceilings(), status, reason or "")
    return Row.model_validate(row.model_dump() | {"reason": reason} | facts)


def is_unavailable(row: Row) -> bool:
    """Whether the row is there to say why the hardware's counters are not."""
    return row.status == "skipped" and (row.reason or "").startswith(UNAVAILABLE)
