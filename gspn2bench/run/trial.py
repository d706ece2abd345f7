"""A trial: one rung on one case. Its limits, its preflight and its rows."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

import torch

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import jit
from gspn2bench.measure import l2_cache, timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Measurement
from gspn2bench.records.schema import L2State, Row, Status, Timing
from gspn2bench.registry import Candidate
from gspn2bench.run.preflight import Observations, TrialEndedError, preflight
from gspn2bench.workload import Workload, workload_of
from gspn2bench.workload.gate import GateResult

SIMULATED_ELEMENTS: Final = 2**15
"""Largest batch * channels * height * width in the simulator: about half a minute per call."""
SUSPECT_SHARE: Final = 1.03
"""Share of copy bandwidth above which a row on a cold cache is flagged."""
HEADROOM_BYTES: Final = 2**29
"""Bytes kept free for the compiler, the profiler and the smallest subset in the gate."""


@dataclass(frozen=True)
class Settings:
    """How a sweep measures.

    Args:
        scenario: name recorded in rows.
        timings: latency modes to measure. The simulator has none and makes one row per trial.
        l2: state of the L2 cache when a call starts.
        seed: for the random inputs.
        budget: samples and seconds per latency.
    """

    scenario: str
    timings: tuple[Timing, ...] = ("eager", "graph", "device")
    l2: L2State = "cold"
    seed: int = 0
    budget: timing.Budget = field(default_factory=timing.Budget)

    @property
    def recorded_timings(self) -> tuple[Timing, ...]:
        """The timings that a trial has rows for."""
        return ("device",) if jit.SIMULATED and self.timings else self.timings


def unmeasured_rows(
    case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings, status: Status, reason: str
) -> list[Row]:
    """Rows without a latency for a trial that no worker started or finished."""
    return Trial(case, rung, settings, ceilings).unmeasured_rows(status, reason)


class Trial:
    """One rung on one case.

    Args:
        case: the case to run.
        rung: the rung or module that runs it.
        settings: how to measure.
        ceilings: the measured limits of the machine.

    Attributes:
        work: the workload of one call.
        observed: the observations of ``preflight`` so far.
        l2: state of the L2 cache that the rows record.
        remaining: timings that have no row yet.
        sets: number of operand sets that the calls rotate through.
    """

    def __init__(self, case: Case, rung: Candidate, settings: Settings, ceilings: Ceilings) -> None:
        self.case = case
        self.rung = rung
        self.settings = settings
        self.ceilings = ceilings
        self.work = workload_of(case, rung)
        self.observed = Observations()
        self.l2 = settings.l2
        self._description = _describe(case, rung, self.work, settings, ceilings)
        self.remaining = list(settings.recorded_timings)
        self.sets = 1

    def preflight(self) -> None:
        """Check that the trial fits in memory, then check the rung: see ``preflight.preflight``.

        Raises:
            TrialEndedError: the trial cannot be measured; the error has the status and reason.
        """
        if reason := self.work.skip_reason:
            raise TrialEndedError("skipped", reason)
        self._choose_sets()
        _check_size(self.work, self.sets)
        preflight(self.work, self.settings.seed, self.observed)

    def unmeasured_rows(
        self, status: Status, reason: str | None, timings: Sequence[Timing] | None = None
    ) -> list[Row]:
        """Rows without a latency.

        Args:
            status: of the rows.
            reason: of the rows.
            timings: one row per timing; None for all remaining timings.
        """
        modes = tuple(self.remaining if timings is None else timings)
        self.remaining = [mode for mode in self.remaining if mode not in modes]
        return [Row(**self.columns(mode), status=status, reason=reason) for mode in modes]

    def row(self, mode: Timing, measurement: Measurement) -> Row:
        """The row of a measured timing."""
        self.remaining.remove(mode)
        latency = median(measurement.samples)
        low, high = measurement.interval
        status: Status = "ok"
        reason = self._suspect_reason(latency)
        if measurement.slowed:
            status = "unstable"
            reason = f"the GPU was slowed throughout: {measurement.clocks.throttle}"
        columns = self.columns(mode)
        if columns["launches_observed"] is None:  # under a profiler, which occupies CUPTI
            columns["launches_observed"] = measurement.nodes
        return Row(
            **columns,
            latency_ms=latency,
            latency_ms_low=low,
            latency_ms_high=high,
            samples_ms=measurement.samples,
            stopped=measurement.stopped,
            host_ms=median(measurement.host_samples) if measurement.host_samples else None,
            host_samples_ms=measurement.host_samples,
            block_samples=measurement.blocks,
            block_clocks_mhz=measurement.block_clocks_mhz,
            clock_mhz=measurement.clocks.clock_mhz,
            temperature_c=measurement.clocks.temperature_c,
            throttle=measurement.clocks.throttle,
            status=status,
            reason=reason,
        )

    def incorrect_row(self, mode: Timing, result: GateResult) -> Row:
        """The row of a timing whose outputs were wrong after the last sample block."""
        reason = f"after the samples, on changed inputs, {result.reason}"
        (row,) = self.unmeasured_rows("incorrect", reason, [mode])
        gate = {
            "gate_error": result.error,
            "gate_tolerance": result.tolerance,
            "gate_slices": result.slices,
        }
        return row.model_copy(update=gate)

    def _choose_sets(self) -> None:
        """Choose the number of operand sets that keeps the L2 cold.

        A case that needs more than ``timing.MAX_SETS`` is too small and is recorded as warm.
        """
        if jit.SIMULATED or self.settings.l2 == "warm":
            return
        l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        sets = l2_cache.rotation_sets(self.work.compulsory_bytes, l2_bytes)
        if sets > timing.MAX_SETS:
            self.l2 = "warm"
        else:
            self.sets = sets

    def columns(self, mode: Timing) -> dict[str, Any]:
        """The columns of a row of this timing that are known so far."""
        # in a warm L2, the operands need not come from DRAM
        dram_bytes = self.work.compulsory_bytes if self.l2 == "cold" else 0
        floor = self.ceilings.floor(dram_bytes, self.work.dependent_fmas, mode)
        return (
            self._description
            | asdict(self.observed)
            | {
                "timing": mode,
                "l2": self.l2,
                "floor_ms": None if floor is None else floor.ms,
                "floor_bound": None if floor is None else floor.bound,
            }
        )

    def _suspect_reason(self, latency_ms: float) -> str | None:
        """Why a row on a cold cache is implausible; None if it is plausible.

        Either the cache may not have been cold, or the row is faster than a copy.
        """
        if self.ceilings.copy_gbps is None or self.l2 == "warm":
            return None
        if not self.ceilings.cold_is_cold:
            return "suspect: no evidence that rotating operand sets kept the L2 cache cold"
        share = self.work.traffic / latency_ms / 1e6 / self.ceilings.copy_gbps
        return f"suspect: {share:.0%} of copy bandwidth" if share > SUSPECT_SHARE else None


def _describe(
    case: Case, rung: Candidate, work: Workload[Any], settings: Settings, ceilings: Ceilings
) -> dict[str, Any]:
    """The columns of a row that are known before anything runs."""
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
        "simulated": jit.SIMULATED,
        "launches_expected": work.launches,
        "bytes_model": work.traffic,
        "copy_gbps": ceilings.copy_gbps,
    }


def _check_size(work: Workload[Any], sets: int) -> None:
    needed = sets * work.compulsory_bytes + HEADROOM_BYTES
    free = free_bytes()
    if needed > free:
        raise TrialEndedError(
            "oom", f"memory: needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB free"
        )
    elements = work.elements
    if jit.SIMULATED and elements > SIMULATED_ELEMENTS:
        raise TrialEndedError(
            "skipped", f"simulator: {elements} elements, limit {SIMULATED_ELEMENTS}; needs a GPU"
        )


def free_bytes() -> int:
    """Bytes of memory free for operands: of the GPU, or of the host in the simulator."""
    if jit.SIMULATED:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    torch.cuda.empty_cache()  # return the memory of the previous trial
    return torch.cuda.mem_get_info()[0]
