"""Checks before a rung is measured on a case: bind the call, run the gate, count launches."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.measure import launches
from gspn2bench.nvtx_ranges import annotate
from gspn2bench.records.schema import Status
from gspn2bench.workload.base import OperandsT, Workload

Result = TypeVar("Result")


class TrialEndedError(Exception):
    """The trial ends without a latency.

    Args:
        status: of its rows.
        reason: of its rows.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status


@dataclass
class Observations:
    """What preflight has observed so far: columns of a row, None until they are known."""

    compile_s: float | None = None
    gate_error: float | None = None
    gate_tolerance: float | None = None
    gate_slices: int | None = None
    launches_observed: int | None = None
    peak_memory_bytes: int | None = None


def preflight(work: Workload[Any], seed: int, observed: Observations) -> None:
    """Check a workload on operands that are freed afterwards; nothing is timed for a row.

    Args:
        work: the workload to check.
        seed: for the random inputs.
        observed: receives each observation as soon as it is known, so failed trials record it too.

    Raises:
        TrialEndedError: an output is wrong, or launches differ from those declared.
    """
    operands = work.operands("cpu" if jit.SIMULATED else "cuda", seed)
    sums = _input_sums(work, operands)
    with annotate("warmup"):  # rungs compile in bind; library kernels compile in the first call
        call, bind_s = _timed(lambda: work.bind(operands))
        if not jit.SIMULATED:
            first_s, second_s = _timed(call)[1], _timed(call)[1]
            observed.compile_s = max(bind_s + first_s - second_s, 0.0)

    with annotate("gate"):
        _check_twice(work, operands, call, observed, sums)
    declared, counted = work.launches, None
    if declared is not None or not jit.SIMULATED:  # the simulator does not see library kernels
        observed.launches_observed = counted = launches.count_launches(call)
    if None not in (declared, counted) and counted != declared:
        raise TrialEndedError("invalid", f"launches: {counted} observed, {declared} declared")
    if not jit.SIMULATED:
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        observed.peak_memory_bytes = torch.cuda.max_memory_allocated()


def status_of_error(error: Exception) -> tuple[Status, str]:
    """The status and reason of rows of a trial that ended with this error."""
    if isinstance(error, TrialEndedError):
        return error.status, str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom", f"memory: {first_line(error)}"
    return "failed", f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def gpu_is_healthy() -> bool:
    """Whether the CUDA context still works; an illegal access breaks it permanently."""
    if jit.SIMULATED:
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _check_twice(
    work: Workload[OperandsT],
    operands: OperandsT,
    call: Call,
    observed: Observations,
    sums: dict[str, float],
) -> None:
    """Run the gate twice, the second time on changed inputs.

    A correct first result may be stale, so the check is repeated on changed inputs. It also
    verifies that the call did not modify its inputs, because the reference would then read the
    modified inputs and agree.

    Args:
        work: the workload.
        operands: its operands; the inputs are changed in place.
        call: bound to the operands.
        observed: receives the gate result.
        sums: of the inputs before the first call, from ``_input_sums``.
    """
    for prefix in ("", "on changed inputs, "):
        result = work.check(operands, call)
        observed.gate_error = result.error
        observed.gate_tolerance = result.tolerance
        observed.gate_slices = result.slices
        if not result.passed:
            raise TrialEndedError("incorrect", f"{prefix}{result.reason}")
        for name, value in _input_sums(work, operands).items():
            if value != sums[name]:
                raise TrialEndedError("incorrect", f"{prefix}{name}: the call changed this input")
        work.vary(operands)
        sums = _input_sums(work, operands)


def _input_sums(work: Workload[OperandsT], operands: OperandsT) -> dict[str, float]:
    """The sum of each input, by name, over all scans.

    Sums are in float32, which needs no copy, and add in the same order every time.
    """
    return {
        name: sum(float(tensor.sum(dtype=torch.float32)) for tensor in tensors)
        for name, tensors in work.inputs(operands).items()
    }


def _timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """Run a function; return its result and its time in seconds, GPU work included."""
    start = time.perf_counter()
    result = function()
    if not jit.SIMULATED:
        torch.cuda.synchronize()
    return result, time.perf_counter() - start
