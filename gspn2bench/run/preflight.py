"""Before any number: one rung on one case is bound, held to the reference, its launches counted."""

import time
from collections.abc import Callable
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
    """The trial ends without a number."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status


def preflight(work: Workload[Any], seed: int, facts: dict[str, Any]) -> None:
    """Run a call on operands of its own, which are given back: no number is taken.

    What is learnt on the way goes into ``facts``, so that it is recorded however the trial ends.

    Raises:
        EndedError: an output is wrong, or the launches are others than declared.
    """
    operands = work.operands("cpu" if jit.SIMULATED else "cuda", seed)
    before = _sums(work, operands)
    with annotate("warmup"):  # kernels are compiled when they are bound, libraries' when called
        call, bind_s = _timed(lambda: work.bind(operands))
        if not jit.SIMULATED:
            first_s, second_s = _timed(call)[1], _timed(call)[1]
            facts["compile_s"] = max(bind_s + first_s - second_s, 0.0)

    with annotate("gate"):
        _pass_gate(work, operands, call, facts, before)
    declared, observed = work.launches, None
    if declared is not None or not jit.SIMULATED:  # which counts none of a library's
        facts["launches_observed"] = observed = launches.count_launches(call)
    if None not in (declared, observed) and observed != declared:
        raise TrialEndedError("invalid", f"launches: {observed} observed, {declared} declared")
    if not jit.SIMULATED:
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        facts["peak_memory_bytes"] = torch.cuda.max_memory_allocated()


def status_of_error(error: Exception) -> tuple[Status, str]:
    """Status and reason of a trial that an error has ended."""
    if isinstance(error, TrialEndedError):
        return error.status, str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "oom", f"memory: {first_line(error)}"
    return "failed", f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What an error says, cut to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def gpu_is_healthy() -> bool:
    """Whether the CUDA context still works: an illegal access breaks it for good."""
    if jit.SIMULATED:
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _pass_gate(
    work: Workload[OperandsT],
    operands: OperandsT,
    call: Call,
    facts: dict[str, Any],
    before: dict[str, float],
) -> None:
    """Hold the call to the reference twice, the second time on other inputs.

    What is right once may be left over, or remembered. An input that the call writes to would be
    the reference's too.
    """
    for turn in ("", "on changed inputs, "):
        verdict = work.check(operands, call)
        facts["gate_error"] = verdict.error
        facts["gate_tolerance"] = verdict.tolerance
        facts["gate_slices"] = verdict.slices
        if not verdict.passed:
            raise TrialEndedError("incorrect", f"{turn}{verdict.reason}")
        for name, value in _sums(work, operands).items():
            if value != before[name]:
                raise TrialEndedError("incorrect", f"{turn}{name}: the call changed this input")
        work.vary(operands)
        before = _sums(work, operands)


def _sums(work: Workload[OperandsT], operands: OperandsT) -> dict[str, float]:
    """The sum of each input, by its name; those of several scans together.

    In float32, which torch sums without a copy, and in the same order each time.
    """
    return {
        name: sum(float(tensor.sum(dtype=torch.float32)) for tensor in tensors)
        for name, tensors in work.inputs(operands).items()
    }


def _timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """What a function returns, and the seconds that it takes, the GPU's work included."""
    start = time.perf_counter()
    result = function()
    if not jit.SIMULATED:
        torch.cuda.synchronize()
    return result, time.perf_counter() - start
