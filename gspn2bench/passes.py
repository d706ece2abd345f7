"""The rows of ``traffic``: a rung on a case traced in the simulator, or counted by ncu.

Traced rows are simulated ones: the requests and sectors that the kernels ask for. Hardware rows are
what ncu counted on a GPU, with the caches left as they are (l2 "warm") and flushed before each
kernel ("cold").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gspn2bench import gate, once, rungs, trial
from gspn2bench.measure import counters
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.counters import Counters
from gspn2bench.measure.trace import Trace, trace
from gspn2bench.proof import first_line
from gspn2bench.scenario import Case
from gspn2bench.schema import L2State, Row, Status
from gspn2bench.turns import Turn
from gspn2bench.workload import Workload

Tool = Literal["trace", "ncu", "all"]
Pass = Literal["trace", "warm", "cold"]
"""What makes a row: the tracer, or ncu with the L2 in that state."""

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
        scenario: name that rows carry.
        l2: that the scenario asks for; a traced row has no other.
        cases: in order.
        rungs: references (``rungs.find``), in order; all of them take a case before the next.
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
    def trials(self) -> list[tuple[Case, str]]:
        """Every case with every rung."""
        return [(case, reference) for case in self.cases for reference in self.rungs]


@dataclass(frozen=True)
class TraceJob:
    """What a worker is asked to do: trace rungs, by their references, on a case."""

    plan: Plan
    case: Case
    rungs: tuple[str, ...]

    def run(self) -> Iterator[Turn | Row]:
        """A row for each rung, and whose turn it is."""
        for reference in self.rungs:
            yield Turn(rungs.find(reference).id)
            yield traced(self.plan, self.case, reference)

    def after(self, row: Row) -> "TraceJob | None":
        """What is left when this row is done."""
        left = tuple(each for each in self.rungs if rungs.find(each).id != row.rung)
        return replace(self, rungs=left) if left else None

    def ended(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """The rows that are left of one rung, by its id, or of all, without a number."""
        return [
            _row(self.plan, self.case, reference, status, reason)
            for reference in self.rungs
            if rung in (None, rungs.find(reference).id)
        ]


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
        reason = f"{type(error).__name__}: {first_line(error)}"
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


class Hardware:
    """Rows of ncu's, of all rungs of a case from one process where that can be had.

    ncu takes longer to start than to look at a few kernels. A program that fails, or whose trials
    ncu can't tell apart, is run again for each rung by itself.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def rows(self, case: Case, references: Sequence[str], l2: L2State) -> Iterator[Row]:
        """A row for each rung; ``skipped`` with the reason where it can't be profiled."""
        able = []
        for reference in references:
            if reason := Workload.of(case, rungs.find(reference)).unsupported:
                yield self._row(case, reference, l2, "skipped", reason)
            else:
                able.append(reference)
        if not able:
            return
        try:
            found = self._measure(case, able, l2)
        except counters.ProgramError as error:
            if len(able) == 1:
                yield self._unavailable(case, able[0], l2, error)
                return
        except counters.UnavailableError as error:
            for reference in able:
                yield self._unavailable(case, reference, l2, error)
            return
        else:
            for reference, seen in zip(able, found, strict=True):
                yield self._counted(case, reference, l2, seen)
            return
        for reference in able:
            yield from self.rows(case, [reference], l2)

    def _measure(self, case: Case, references: Sequence[str], l2: L2State) -> list[Counters | None]:
        program = once.program(case, references, self._plan.seed)
        return counters.measure(counters.find(), CACHES[l2], program, len(references))

    def _counted(self, case: Case, reference: str, l2: L2State, found: Counters | None) -> Row:
        expected = Workload.of(case, rungs.find(reference)).launches
        launches = 0 if found is None else found.launches
        if found is None or launches != expected:
            reason = f"launches: {launches} seen by ncu, {expected} declared"
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


def _row(
    plan: Plan, case: Case, reference: str, status: Status, reason: str | None = None, **facts: Any
) -> Row:
    settings = trial.Settings(plan.scenario, ("device",), plan.l2, plan.seed)
    rung = rungs.find(reference)
    (row,) = trial.without_number(case, rung, settings, Ceilings(), status, reason or "")
    return Row.model_validate(row.model_dump() | {"reason": reason} | facts)


def is_unavailable(row: Row) -> bool:
    """Whether the row is there to say why the hardware's counters are not."""
    return row.status == "skipped" and (row.reason or "").startswith(UNAVAILABLE)
