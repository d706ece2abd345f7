"""A stand-in for a GPU, to run trials without one; its clock and temperature are constant."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import jit, reference
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure import clocks, l2_cache, launches, timing, warm_up
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.clocks import Clocks
from gspn2bench.problem import ScanProblem
from gspn2bench.workload import Scans

CASE = Case(2, 3, 32, 32)
BOUNDS = Ceilings((4000.0,), fma_us=0.05, launch_us=2.0, l2_cold_ms=0.02, l2_warm_ms=0.01)
FOOTPRINT = ScanProblem(2, 3, 32, 32).compulsory_bytes
COPY_MS = FOOTPRINT / 4000.0 / 1e6
L2_BYTES = 300_000
FREE_BYTES = 2**33


def bind(problem: ScanProblem, operands: Operands) -> Call:
    """A rung that runs without a GPU: the reference, in torch."""
    groups = (problem.slices, 1, problem.height, problem.width)

    def call() -> None:
        x, lam = (t.double().view(groups) for t in (operands.x, operands.lam))
        h = reference.forward(problem, x, lam, operands.w.double().view(3, *groups))
        operands.h.copy_(h.view(problem.data_shape))

    return call


RUNG: Rung = replace(LADDER["r07"], id="mine", forward=bind)


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the GPU: every kernel takes the time of a copy."""
    make = Scans.operands
    monkeypatch.setattr(jit, "SIMULATED", False)
    monkeypatch.setattr(Scans, "operands", lambda work, device, seed: make(work, "cpu", seed))
    monkeypatch.setattr(launches, "durations_ms", lambda calls: [COPY_MS] * len(calls))
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [COPY_MS] * len(calls))
    monkeypatch.setattr(warm_up, "FIRST", warm_up.ONE_SAMPLE)
    monkeypatch.setattr(warm_up, "LATER", warm_up.ONE_SAMPLE)
    monkeypatch.setattr(l2_cache, "reset_persisting_lines", lambda: None)
    monkeypatch.setattr(clocks, "read", lambda: Clocks(1980.0, 40.0, ""))
    properties = SimpleNamespace(L2_cache_size=L2_BYTES)
    pretended: dict[str, Callable[..., object]] = {
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: properties,
        "mem_get_info": lambda *device: (FREE_BYTES, 2 * FREE_BYTES),
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: FOOTPRINT,
    }
    for name, function in pretended.items():
        monkeypatch.setattr(torch.cuda, name, function)
