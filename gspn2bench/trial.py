"""One rung on one case: bound, gated, its launches counted, measured; out come its rows."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import torch

from gspn2bench import gate, inputs
from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.measure import launches, timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.ranges import annotate
from gspn2bench.scenario import Case
from gspn2bench.schema import L2State, Row, Status, Timing
from gspn2bench.workload import Workload

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


class _EndedError(Exception):
    """The trial ends without a number."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status


def run(case: Case, rung: Rung, settings: Settings, ceilings: Ceilings) -> Iterator[Row]:
    """The rows of one rung on one case, one for each timing, each as soon as it is known.

    A rung that can't run the case is ``skipped``, one that does not fit ``oom``, one whose gate is
    red ``incorrect``, one that launches other than it declares ``invalid``, and one that raises
    ``failed``; each row says why and has no latency.
    """
    work = Workload.of(case, rung)
    facts = _describe(case, work, settings, ceilings)
    modes = settings.recorded_timings
    try:
        calls = _ready(work, settings, facts)
    except Exception as error:
        yield from _ended(facts, modes, *_ending(error))
        return
    for mode in modes:
        try:
            row = _measured(mode, calls, settings, facts, ceilings)
        except Exception as error:
            (row,) = _ended(facts, [mode], *_ending(error))
        yield row


def without_number(
    case: Case, rung: Rung, settings: Settings, ceilings: Ceilings, status: Status, reason: str
) -> list[Row]:
    """The rows of a trial that ended from outside: its process died, or it never began."""
    facts = _describe(case, Workload.of(case, rung), settings, ceilings)
    return _ended(facts, settings.recorded_timings, status, reason)


def _ended(
    facts: dict[str, Any], modes: Sequence[Timing], status: Status, reason: str
) -> list[Row]:
    return [Row(**facts, timing=mode, status=status, reason=reason) for mode in modes]


def _describe(case: Case, work: Workload, settings: Settings, ceilings: Ceilings) -> dict[str, Any]:
    problem = work.first
    return {
        "scenario": settings.scenario,
        "case": case.label,
        "batch": problem.batch,
        "channels": problem.channels,
        "height": problem.height,
        "width": problem.width,
        "dtype": problem.dtype,
        "direction": problem.direction if case.directions == 1 else "all",
        "directions": case.directions,
        "chunk": problem.chunk_length,
        "weights": problem.weights,
        "seed": settings.seed,
        "rung": work.rung.id,
        "phase": problem.phase,
        "l2": settings.l2,
        "simulated": jit.SIMULATED,
        "launches_expected": work.launches,
        "bytes_model": work.traffic,
        "copy_gbps": ceilings.copy_gbps,
        "floor_ms": ceilings.floor_ms(work.compulsory_bytes, work.steps),
    }


def _ready(work: Workload, settings: Settings, facts: dict[str, Any]) -> list[Call]:
    """Warmed-up calls on as many operand sets as the L2 state asks for; the gate is green.

    What is learnt on the way goes into ``facts``, so that it is recorded however the trial ends.
    """
    if reason := work.unsupported:
        raise _EndedError("skipped", reason)
    if not jit.SIMULATED:
        torch.cuda.empty_cache()  # of the trial before
    sets = _operand_sets(work, settings, facts)
    _check_size(work, sets)
    operands = work.operands("cpu" if jit.SIMULATED else "cuda", settings.seed)
    call = work.bind(operands)
    if not jit.SIMULATED:
        with annotate("warmup"):
            first, second = _seconds(call), _seconds(call)
            facts["compile_s"] = max(first - second, 0.0)

    with annotate("gate"):
        _pass_gate(work, operands, call, facts)
    facts["launches_observed"] = launches.observe(call)
    if facts["launches_observed"] not in (None, facts["launches_expected"]):
        raise _EndedError(
            "invalid",
            f"launches: {facts['launches_observed']} observed, "
            f"{facts['launches_expected']} declared",
        )
    if not jit.SIMULATED:
        torch.cuda.reset_peak_memory_stats()
        call()
        facts["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    return [call, *(work.bind(work.clone(operands)) for _ in range(sets - 1))]


def _pass_gate(
    work: Workload, operands: tuple[Operands, ...], call: Call, facts: dict[str, Any]
) -> None:
    """Hold the call to the reference twice, the second time on other inputs.

    What is right once may be left over, or remembered.
    """
    scans = list(zip(work.problems, operands, strict=True))
    for turn in ("", "on changed inputs, "):
        verdict = gate.check_all(scans, call)
        facts["gate_error"] = verdict.error
        facts["gate_tolerance"] = verdict.tolerance
        facts["gate_slices"] = verdict.slices
        if not verdict.passed:
            raise _EndedError("incorrect", f"{turn}{verdict.reason}")
        inputs.vary(operands)


def _measured(
    mode: Timing,
    calls: Sequence[Call],
    settings: Settings,
    facts: dict[str, Any],
    ceilings: Ceilings,
) -> Row:
    if jit.SIMULATED:
        return Row(**facts, timing=mode, status="ok")
    with annotate("measure", facts["case"], facts["rung"], facts["phase"], mode):
        taken = timing.measure(mode, calls, settings.budget)
    latency = median(taken.samples)
    low, high = taken.interval
    status: Status = "ok"
    reason = _suspicion(latency, facts, ceilings)
    if taken.slowed:
        status, reason = "unstable", f"the GPU was slowed throughout: {taken.clocks.throttle}"
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


def _suspicion(latency_ms: float, facts: dict[str, Any], ceilings: Ceilings) -> str | None:
    """What speaks against a cold row: a cache that was not, or more bytes than a copy moves."""
    if ceilings.copy_gbps is None or facts["l2"] == "warm":
        return None
    if not ceilings.cold_is_cold:
        return "suspect: rotating operand sets was not seen to empty the L2 cache"
    share = facts["bytes_model"] / latency_ms / 1e6 / ceilings.copy_gbps
    return f"suspect: {share:.0%} of copy bandwidth" if share > SUSPECT_SHARE else None


def _operand_sets(work: Workload, settings: Settings, facts: dict[str, Any]) -> int:
    """Sets to rotate through; a case too small to be made cold is recorded as warm."""
    if jit.SIMULATED or settings.l2 == "warm":
        return 1
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    sets = timing.rotation(work.compulsory_bytes, l2_bytes)
    if sets > timing.MAX_SETS:
        facts["l2"] = "warm"
        return 1
    return sets


def _check_size(work: Workload, sets: int) -> None:
    needed = sets * work.compulsory_bytes + HEADROOM_BYTES
    free = _free_bytes()
    if needed > free:
        raise _EndedError(
            "oom", f"memory: needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        )
    elements = sum(problem.slices * problem.plane for problem in work.problems)
    if jit.SIMULATED and elements > SIMULATED_ELEMENTS:
        raise _EndedError(
            "skipped", f"simulator: {elements} elements are above {SIMULATED_ELEMENTS}; needs a GPU"
        )


def _free_bytes() -> int:
    if jit.SIMULATED:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return torch.cuda.mem_get_info()[0]


def _seconds(call: Call) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _ending(error: Exception) -> tuple[Status, str]:
    if isinstance(error, _EndedError):
        return error.status, str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom", f"memory: {first_line(error)}"
    return "failed", f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What an error says, cut to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
