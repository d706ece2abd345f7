"""Measure the rungs of a case in alternating sample blocks, after a preflight of each.

The order is A B A B, not A A B B, so a drift of clocks or temperature affects all rungs alike.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple

from gspn2bench import registry
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.label import Label
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.threads import backward_in_range
from gspn2bench.measure.timing import Sampler
from gspn2bench.nvtx_ranges import annotate
from gspn2bench.records.schema import Row, Status, Timing
from gspn2bench.registry import Candidate
from gspn2bench.run.preflight import gpu_is_healthy, status_of_error
from gspn2bench.run.recheck import recheck
from gspn2bench.run.trial import HEADROOM_BYTES, Settings, Trial, free_bytes, unmeasured_rows


@dataclass(frozen=True)
class RungStarted:
    """Yielded before a rung runs; later failures are attributed to it.

    Args:
        rung: id of the rung.
    """

    rung: str


@dataclass(frozen=True)
class CaseJob:
    """A job for a worker: ``measure_interleaved`` on one case.

    Args:
        case: the case to run.
        rungs: the spec of each rung, with settings that list the timings to measure.
        ceilings: the measured limits of the machine.
    """

    case: Case
    rungs: tuple[tuple[str, Settings], ...]
    ceilings: Ceilings

    def run(self) -> Iterator[RungStarted | Row]:
        """Yield each row when it is complete, and ``RungStarted`` before a rung runs."""
        rungs = [(registry.find(spec), settings) for spec, settings in self.rungs]
        yield from measure_interleaved(self.case, rungs, self.ceilings)

    def remaining_after(self, row: Row) -> "CaseJob | None":
        """The job without the rung and timing of a row; None if nothing remains."""
        remaining = []
        for spec, settings in self.rungs:
            timings = settings.recorded_timings
            if registry.find(spec).id == row.rung:
                timings = tuple(mode for mode in timings if mode != row.timing)
            if timings:
                remaining.append((spec, replace(settings, timings=timings)))
        return replace(self, rungs=tuple(remaining)) if remaining else None

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """Rows without a latency for the remaining timings of one rung.

        Args:
            rung: id of the rung; None for all rungs of the job.
            status: of the rows.
            reason: of the rows.
        """
        rungs = [(registry.find(spec), settings) for spec, settings in self.rungs]
        return [
            row
            for candidate, settings in rungs
            if rung in (None, candidate.id)
            for row in unmeasured_rows(
                self.case, candidate, settings, self.ceilings, status, reason
            )
        ]


def measure_rung(
    case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings
) -> Iterator[Row]:
    """Measure one rung alone and yield its rows; arguments as for ``measure_interleaved``."""
    events = measure_interleaved(case, [(rung, settings)], ceilings)
    return (event for event in events if isinstance(event, Row))


def measure_interleaved(
    case: Case, rungs: Sequence[tuple[Candidate, Settings]], ceilings: Ceilings
) -> Iterator[RungStarted | Row]:
    """Measure rungs on one case and yield one row per rung and timing, when it is complete.

    Rungs that fail the preflight have rows without a latency. Their status is ``skipped`` (the rung
    cannot run the case), ``oom`` (the case does not fit in memory), ``incorrect`` (the gate is
    red), ``invalid`` (launches differ from those declared) or ``failed`` (the rung raised an
    error), and each row has a reason. A graph row is ``skipped`` if no CUDA graph can capture the
    call.

    The remaining rungs take sample blocks in alternation, one timing after the other. If their
    operands together exceed the memory, the rungs are measured one by one.

    After the last sample block of a timing the outputs are checked again (``recheck``). If they are
    wrong, the row is ``incorrect`` and has no latency.

    Iteration ends early if a rung breaks the CUDA context. The rows of the other rungs are then
    missing.

    Args:
        case: the case to run.
        rungs: each with its settings.
        ceilings: the measured limits of the machine.
    """
    runnable = []
    for rung, settings in rungs:
        yield RungStarted(rung.id)
        trial = Trial(case, rung, settings, ceilings)
        try:
            with annotate("case", case.label, rung.id):
                trial.preflight()
        except Exception as error:
            yield from trial.unmeasured_rows(*status_of_error(error))
            if not gpu_is_healthy():
                return
        else:
            if jit.SIMULATED:
                yield from trial.unmeasured_rows("ok", None)
                continue
            if (reason := trial.work.graph_unsupported_reason) and "graph" in trial.remaining:
                yield from trial.unmeasured_rows("skipped", reason, ["graph"])
            if trial.remaining:
                runnable.append(trial)
    one_by_one = [[trial] for trial in runnable]
    for group in [runnable] if runnable and _fit_in_memory(runnable) else one_by_one:
        yield from _measure_group(group)


class _Bound(NamedTuple):
    """A trial that is bound to its operand sets.

    Args:
        operand_sets: the operands. Their tensors may be shared with other trials.
        calls: the call on every operand set.
        set_indices: the iterator of set indices that all trials on these sets share.
    """

    operand_sets: list[Any]
    calls: list[Call]
    set_indices: Iterator[int]


def _measure_group(trials: Sequence[Trial]) -> Iterator[RungStarted | Row]:
    """Measure trials together, one timing after the other."""
    first = trials[0]
    yield RungStarted(first.rung.id)
    bound = None
    try:
        bound = _bind_operand_sets(trials)
    except Exception as error:
        if len(trials) == 1 or not gpu_is_healthy():
            yield from first.unmeasured_rows(*status_of_error(error))
            return
    if bound is None:
        for trial in trials:  # binding failed for all trials together, perhaps for lack of memory
            yield from _measure_group([trial])
        return
    for mode in dict.fromkeys(mode for trial in trials for mode in trial.remaining):
        samplers = {
            trial: Sampler(
                mode,
                one.calls,
                trial.settings.budget,
                one.set_indices,
                trial.work.launches,
                trial.observed.launches_observed,
                trial.l2 == "cold",
            )
            for trial, one in bound.items()
            if mode in trial.remaining
        }
        yield from _alternate_sample_blocks(mode, samplers, bound)
        if not gpu_is_healthy():
            return


def _alternate_sample_blocks(
    mode: Timing, samplers: dict[Trial, Sampler], bound: Mapping[Trial, _Bound]
) -> Iterator[RungStarted | Row]:
    """Take one sample block per trial, again and again, until every trial has its row."""
    while samplers:
        for trial, sampler in list(samplers.items()):
            label, rung = trial.case.label, trial.rung.id
            yield RungStarted(rung)
            try:
                with (
                    annotate("case", label, rung),
                    annotate("measure", str(Label(label, rung, trial.case.phase, mode))),
                    backward_in_range(),
                ):
                    measurement = sampler.take_block()
                if measurement is None:
                    continue
                with annotate("case", label, rung):
                    result = recheck(trial.work, bound[trial].operand_sets, sampler)
            except Exception as error:
                del samplers[trial]
                healthy = gpu_is_healthy()
                modes = [mode] if healthy else None
                yield from trial.unmeasured_rows(*status_of_error(error), modes)
                if not healthy:
                    return
            else:
                del samplers[trial]
                if result.passed:
                    yield trial.row(mode, measurement)
                else:
                    yield trial.incorrect_row(mode, result)


def _bind_operand_sets(trials: Sequence[Trial]) -> dict[Trial, _Bound]:
    """Bind each trial to its operand sets.

    Trials whose workloads have equal keys, such as those of the same scans, share the tensors of
    their operand sets. Outputs that a module allocates are its own.
    """
    shared: dict[Hashable, tuple[list[Any], Iterator[int]]] = {}
    bound = {}
    for trial in trials:
        work = trial.work
        if work.key not in shared:
            first = work.operands("cuda", trial.settings.seed)
            others = (work.clone(first) for _ in range(trial.sets - 1))
            shared[work.key] = ([first, *others], count())
        operand_sets, set_indices = shared[work.key]
        own = [copy(operands) for operands in operand_sets]
        bound[trial] = _Bound(own, [work.bind(operands) for operands in own], set_indices)
    return bound


def _fit_in_memory(trials: Sequence[Trial]) -> bool:
    """Whether the operand sets of all trials and the scratch memory of their calls fit."""
    operands = {trial.work.key: trial.sets * trial.work.compulsory_bytes for trial in trials}
    scratch = sum(
        trial.sets * max(0, (trial.observed.peak_memory_bytes or 0) - trial.work.compulsory_bytes)
        for trial in trials
    )
    needed: int = sum(operands.values()) + scratch + HEADROOM_BYTES
    return needed <= free_bytes()
