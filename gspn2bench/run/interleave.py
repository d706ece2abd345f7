"""The rungs of a case: each proven, then all measured in turn, block by block.

A B A B, and not A A B B: what drifts, the clocks or the heat, hits all of them alike.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from gspn2bench import registry
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.label import Label
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Sampler
from gspn2bench.nvtx_ranges import annotate
from gspn2bench.records.schema import Row, Status, Timing
from gspn2bench.registry import Candidate
from gspn2bench.run.preflight import gpu_is_healthy, status_of_error
from gspn2bench.run.trial import HEADROOM_BYTES, Settings, Trial, free_bytes, unmeasured_rows


@dataclass(frozen=True)
class RungStarted:
    """Given out before a rung is at it: what goes wrong from here on is this rung's doing.

    Args:
        rung: its id.
    """

    rung: str


@dataclass(frozen=True)
class CaseJob:
    """What a worker is asked to do: ``measure_interleaved``, with the rungs by their references.

    Args:
        case: to run.
        rungs: each with its settings, whose timings are those that are left to take.
        ceilings: of this run.
    """

    case: Case
    rungs: tuple[tuple[str, Settings], ...]
    ceilings: Ceilings

    def run(self) -> Iterator[RungStarted | Row]:
        """The rows, each as soon as it is known, and whose turn it is."""
        found = [(registry.find(reference), settings) for reference, settings in self.rungs]
        yield from measure_interleaved(self.case, found, self.ceilings)

    def remaining_after(self, row: Row) -> "CaseJob | None":
        """What is left when this row is done."""
        left = []
        for reference, settings in self.rungs:
            timings = settings.recorded_timings
            if registry.find(reference).id == row.rung:
                timings = tuple(mode for mode in timings if mode != row.timing)
            if timings:
                left.append((reference, replace(settings, timings=timings)))
        return replace(self, rungs=tuple(left)) if left else None

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """The rows that are left of one rung, by its id, or of all, without a number."""
        return [
            row
            for reference, settings in self.rungs
            if rung in (None, (found := registry.find(reference)).id)
            for row in unmeasured_rows(self.case, found, settings, self.ceilings, status, reason)
        ]


def run(case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings) -> Iterator[Row]:
    """The rows of one rung by itself: see ``measure_interleaved``."""
    given = measure_interleaved(case, [(rung, settings)], ceilings)
    return (each for each in given if isinstance(each, Row))


def measure_interleaved(
    case: Case, chosen: Sequence[tuple[Candidate, Settings]], ceilings: Ceilings
) -> Iterator[RungStarted | Row]:
    """The rows of some rungs on one case, one for each timing, each as soon as it is known.

    A rung that can't run the case is ``skipped``, one that does not fit ``oom``, one whose gate is
    red ``incorrect``, one that launches other than it declares ``invalid``, and one that raises
    ``failed``; each row says why and has no latency. So is the graph time of a call that no CUDA
    graph can hold ``skipped``. The others take blocks of samples in turn, in
    one timing after the other. Where their operands together exceed the memory, they are measured
    one rung after the other.

    Ends early, with rows left to take, where a rung has broken the CUDA context.
    """
    ready = []
    for rung, settings in chosen:
        yield RungStarted(rung.id)
        trial = Trial(case, rung, settings, ceilings)
        try:
            with annotate("case", case.label, rung.id):
                trial.prove()
        except Exception as error:
            yield from trial.unmeasured_rows(*status_of_error(error))
            if not gpu_is_healthy():
                return
        else:
            if jit.SIMULATED:
                yield from trial.unmeasured_rows("ok", None)
                continue
            if (reason := trial.work.not_in_graphs) and "graph" in trial.left:
                yield from trial.unmeasured_rows("skipped", reason, ["graph"])
            if trial.left:
                ready.append(trial)
    alone = [[trial] for trial in ready]
    for together in [ready] if ready and _fit(ready) else alone:
        yield from _measured(together)


def _measured(trials: Sequence[Trial]) -> Iterator[RungStarted | Row]:
    """Measure trials in turn, in one timing after the other."""
    first = trials[0]
    yield RungStarted(first.rung.id)
    calls = None
    try:
        calls = _calls(trials)
    except Exception as error:
        if len(trials) == 1 or not gpu_is_healthy():
            yield from first.unmeasured_rows(*status_of_error(error))
            return
    if calls is None:
        for trial in trials:  # together they were too many after all
            yield from _measured([trial])
        return
    for mode in dict.fromkeys(mode for trial in trials for mode in trial.left):
        samplers = {
            trial: Sampler(
                mode, bound, trial.settings.budget, turns, trial.facts["launches_expected"]
            )
            for trial, (bound, turns) in zip(trials, calls, strict=True)
            if mode in trial.left
        }
        yield from _blocks(mode, samplers)
        if not gpu_is_healthy():
            return


def _blocks(mode: Timing, samplers: dict[Trial, Sampler]) -> Iterator[RungStarted | Row]:
    """A block of each trial in turn until each has its row."""
    while samplers:
        for trial, sampler in list(samplers.items()):
            label, rung = trial.case.label, trial.rung.id
            yield RungStarted(rung)
            try:
                with (
                    annotate("case", label, rung),
                    annotate("measure", str(Label(label, rung, trial.case.phase, mode))),
                ):
                    taken = sampler.take_block()
            except Exception as error:
                del samplers[trial]
                well = gpu_is_healthy()
                yield from trial.unmeasured_rows(*status_of_error(error), [mode] if well else None)
                if not well:
                    return
            else:
                if taken is not None:
                    del samplers[trial]
                    yield trial.row(mode, taken)


def _calls(trials: Sequence[Trial]) -> list[tuple[list[Call], Iterator[int]]]:
    """Each trial's calls on the operand sets, and whose turn the sets are.

    Trials whose workloads can, such as those of the same scans, work on the same sets.
    """
    made: dict[Hashable, tuple[list[Any], Iterator[int]]] = {}
    calls = []
    for trial in trials:
        work = trial.work
        if work.key not in made:
            one = work.operands("cuda", trial.settings.seed)
            others = (work.clone(one) for _ in range(trial.sets - 1))
            made[work.key] = ([one, *others], count())
        sets, turns = made[work.key]
        calls.append(([work.bind(operands) for operands in sets], turns))
    return calls


def _fit(trials: Sequence[Trial]) -> bool:
    """Whether the operand sets of all, and what each call holds beside them, fit the memory."""
    shared = {trial.work.key: trial.sets * trial.work.compulsory_bytes for trial in trials}
    beside = sum(
        trial.sets * max(0, trial.facts["peak_memory_bytes"] - trial.work.compulsory_bytes)
        for trial in trials
    )
    needed: int = sum(shared.values()) + beside + HEADROOM_BYTES
    return needed <= free_bytes()
