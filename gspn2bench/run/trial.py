"""One rung on one case: what is known of it, whether it can be measured, and the rows it makes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import torch

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import jit
from gspn2bench.measure import timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Measurement
from gspn2bench.records.schema import L2State, Row, Status, Timing
from gspn2bench.registry import Candidate
from gspn2bench.run.preflight import TrialEndedError, preflight
from gspn2bench.workload import Workload, workload_of

SIMULATED_ELEMENTS: Final = 2**15
"""Largest batch * channels * height * width for the simulator: about half a minute a call."""
SUSPECT_SHARE: Final = 1.03
"""Of copy bandwidth; more than this on a cold cache is flagged."""
HEADROOM_BYTES: Final = 2**29
"""Memory left for the compiler, the profiler and the gate's smallest sample."""


@dataclass(frozen=True)
class Settings:
    """How a sweep measures.

    Args:
        scenario: the name that rows carry.
        timings: latency modes to take; the simulator has none, and makes one row a trial.
        l2: state of the L2 cache when a call starts.
        seed: of the inputs.
        budget: samples and seconds of each latency.
    """

    scenario: str
    timings: tuple[Timing, ...] = ("eager", "graph", "device")
    l2: L2State = "cold"
    seed: int = 0
    budget: timing.Budget = field(default_factory=timing.Budget)

    @property
    def recorded_timings(self) -> tuple[Timing, ...]:
        """The timings that a trial makes rows of."""
        return ("device",) if jit.SIMULATED and self.timings else self.timings


def unmeasured_rows(
    case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings, status: Status, reason: str
) -> list[Row]:
    """The rows of a trial that ended from outside: its process died, or it never began."""
    return Trial(case, rung, settings, ceilings).unmeasured_rows(status, reason)


class Trial:
    """One rung on one case.

    Args:
        case: to run.
        rung: that runs it.
        settings: how to measure.
        ceilings: of this run.

    Attributes:
        work: what one call does.
        facts: the columns of a row that are known so far.
        left: timings that have no row yet.
        sets: operand sets that the calls take turns on.
    """

    def __init__(self, case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings) -> None:
        self.case = case
        self.rung = rung
        self.settings = settings
        self.ceilings = ceilings
        self.work = workload_of(case, rung)
        self.facts = _describe(case, rung, self.work, settings, ceilings)
        self.left = list(settings.recorded_timings)
        self.sets = 1

    def prove(self) -> None:
        """Find out whether this can be measured: see ``preflight.prove``.

        Raises:
            TrialEndedError: it can't, for a reason that is no error of the rung.
        """
        if reason := self.work.unsupported:
            raise TrialEndedError("skipped", reason)
        self._choose_sets()
        _check_size(self.work, self.sets)
        preflight(self.work, self.settings.seed, self.facts)

    def unmeasured_rows(
        self, status: Status, reason: str | None, timings: Sequence[Timing] | None = None
    ) -> list[Row]:
        """Rows without a number; of every timing that is left, unless some are given."""
        modes = tuple(self.left if timings is None else timings)
        self.left = [mode for mode in self.left if mode not in modes]
        return [Row(**self.facts, timing=mode, status=status, reason=reason) for mode in modes]

    def row(self, mode: Timing, taken: Measurement) -> Row:
        """The row of a timing that was measured."""
        self.left.remove(mode)
        latency = median(taken.samples)
        low, high = taken.interval
        status: Status = "ok"
        reason = _suspicion(latency, self.facts, self.ceilings)
        if taken.slowed:
            status, reason = "unstable", f"the GPU was slowed throughout: {taken.clocks.throttle}"
        facts = self.facts
        if facts.get("launches_observed") is None:  # under a profiler, which has CUPTI to itself
            facts = facts | {"launches_observed": taken.nodes}
        return Row(
            **facts,
            timing=mode,
            latency_ms=latency,
            latency_ms_low=low,
            latency_ms_high=high,
            samples_ms=taken.samples,
            stopped=taken.stopped,
            clock_mhz=taken.clocks.clock_mhz,
            temperature_c=taken.clocks.temperature_c,
            throttle=taken.clocks.throttle,
            status=status,
            reason=reason,
        )

    def _choose_sets(self) -> None:
        """As many as a cold L2 asks for; a case too small to be made cold is recorded as warm."""
        if jit.SIMULATED or self.settings.l2 == "warm":
            return
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        sets = timing.rotation_sets(self.work.compulsory_bytes, l2_bytes)
        if sets > timing.MAX_SETS:
            self.facts["l2"] = "warm"
        else:
            self.sets = sets


def _describe(
    case: Case, rung: Candidate, work: Workload[Any], settings: Settings, ceilings: Ceilings
) -> dict[str, Any]:
    return {
        "scenario": settings.scenario,
        "case": case.label,
        "batch": case.batch,
        "height": case.height,
        "width": case.width,
        "dtype": case.dtype,
        **work.columns,
        "seed": settings.seed,
        "rung": rung.id,
        "phase": case.phase,
        "l2": settings.l2,
        "simulated": jit.SIMULATED,
        "launches_expected": work.launches,
        "bytes_model": work.traffic,
        "copy_gbps": ceilings.copy_gbps,
        "floor_ms": ceilings.floor_ms(work.compulsory_bytes, work.steps),
    }


def _suspicion(latency_ms: float, facts: dict[str, Any], ceilings: Ceilings) -> str | None:
    """What speaks against a cold row: a cache that was not, or more bytes than a copy moves."""
    if ceilings.copy_gbps is None or facts["l2"] == "warm":
        return None
    if not ceilings.cold_is_cold:
        return "suspect: rotating operand sets was not seen to empty the L2 cache"
    share = facts["bytes_model"] / latency_ms / 1e6 / ceilings.copy_gbps
    return f"suspect: {share:.0%} of copy bandwidth" if share > SUSPECT_SHARE else None


def _check_size(work: Workload[Any], sets: int) -> None:
    needed = sets * work.compulsory_bytes + HEADROOM_BYTES
    free = free_bytes()
    if needed > free:
        raise TrialEndedError(
            "oom", f"memory: needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        )
    elements = work.elements
    if jit.SIMULATED and elements > SIMULATED_ELEMENTS:
        raise TrialEndedError(
            "skipped", f"simulator: {elements} elements are above {SIMULATED_ELEMENTS}; needs a GPU"
        )


def free_bytes() -> int:
    """Memory that is free for operands, on the GPU or for the simulator."""
    if jit.SIMULATED:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    torch.cuda.empty_cache()  # of the trial before
    return torch.cuda.mem_get_info()[0]
