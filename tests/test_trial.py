"""The way of a trial on a GPU, walked on a pretended one: what is measured, and what is doubted."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gspn2bench import trial
from gspn2bench.kernels import jit, reference
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure import clocks, launches, timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.timing import Measurement
from gspn2bench.problem import ScanProblem
from gspn2bench.scenario import Case
from gspn2bench.schema import Row
from gspn2bench.trial import Settings
from gspn2bench.workload import Workload

CASE = Case(2, 3, 32, 32)
BOUNDS = Ceilings((4000.0,), step_us=0.05, l2_cold_ms=0.02, l2_warm_ms=0.01)
COPY_MS = ScanProblem(2, 3, 32, 32).compulsory_bytes / 4000.0 / 1e6
bound: list[Operands] = []


def bind(problem: ScanProblem, operands: Operands) -> Call:
    """A rung that needs no GPU: the reference, in torch."""
    bound.append(operands)
    groups = (problem.slices, 1, problem.height, problem.width)

    def call() -> None:
        x, lam = (t.double().view(groups) for t in (operands.x, operands.lam))
        h = reference.forward(problem, x, lam, operands.w.double().view(3, *groups))
        operands.h.copy_(h.view(problem.data_shape))

    return call


RUNG: Rung = replace(LADDER["r07"], id="mine", forward=bind)


@pytest.fixture(autouse=True)
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    bound.clear()
    make = Workload.operands
    monkeypatch.setattr(jit, "SIMULATED", False)
    monkeypatch.setattr(Workload, "operands", lambda work, device, seed: make(work, "cpu", seed))
    monkeypatch.setattr(launches, "durations_ms", lambda calls: [COPY_MS] * len(calls))
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [COPY_MS] * len(calls))
    monkeypatch.setattr(clocks, "read", lambda: Clocks(1980.0, 40.0, ""))
    properties = SimpleNamespace(L2_cache_size=300_000)
    pretended: dict[str, Callable[..., object]] = {
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: properties,
        "mem_get_info": lambda *device: (2**33, 2**34),
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 12345,
    }
    for name, function in pretended.items():
        monkeypatch.setattr(torch.cuda, name, function)


def rows(**settings: object) -> list[Row]:
    chosen = replace(Settings("pretended", timings=("eager", "device")), **settings)  # type: ignore[arg-type]
    return list(trial.run(CASE, RUNG, chosen, BOUNDS))


def test_a_whole_trial() -> None:
    eager, device = rows()
    for row in (eager, device):
        assert row.status == "ok", row.reason
        assert row.reason is None
        assert not row.simulated
        assert row.l2 == "cold"
        assert row.launches_observed == 1
        assert row.peak_memory_bytes == 12345
        assert row.compile_s is not None
        assert row.compile_s >= 0
        assert row.copy_gbps == 4000.0
        assert row.floor_ms == pytest.approx(max(COPY_MS, 32 * 0.05e-3))
        assert row.clock_mhz == 1980.0
        assert row.stopped is not None
        assert row.latency_ms_low is not None
        assert row.latency_ms_high is not None
        assert row.latency_ms_low <= (row.latency_ms or 0) <= row.latency_ms_high
    assert device.latency_ms == pytest.approx(COPY_MS)
    assert device.stopped == "interval"


def test_cold_takes_as_many_operand_sets_as_the_cache_asks_for() -> None:
    rows()
    footprint = ScanProblem(2, 3, 32, 32).compulsory_bytes
    assert len(bound) == timing.rotation(footprint, 300_000) == 6
    assert len({operands.x.data_ptr() for operands in bound}) == 6
    bound.clear()
    assert {row.l2 for row in rows(l2="warm")} == {"warm"}
    assert len(bound) == 1


def test_a_case_too_small_to_be_made_cold_is_recorded_as_warm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "MAX_SETS", 5)
    assert {row.l2 for row in rows()} == {"warm"}
    assert len(bound) == 1


def measured(latency_ms: float, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Row:
    taken = Measurement((latency_ms,) * 20, "interval", Clocks(1980.0, 40.0, ""), slowed=False)
    fixed = replace(taken, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(timing, "measure", lambda mode, calls, budget: fixed)
    return rows(timings=("graph",))[0]


def test_faster_than_a_copy_is_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(COPY_MS / 1.02, monkeypatch).reason is None
    suspect = measured(COPY_MS / 1.05, monkeypatch)
    assert suspect.status == "ok"
    assert suspect.reason == "suspect: 105% of copy bandwidth"


def test_a_cache_that_was_never_cold_is_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "BOUNDS", replace(BOUNDS, l2_cold_ms=0.01))
    row = measured(COPY_MS, monkeypatch)
    assert row.reason == "suspect: rotating operand sets was not seen to empty the L2 cache"


def test_a_gpu_that_stays_slowed_makes_the_row_unstable(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Clocks(900.0, 95.0, "thermal slowdown")
    row = measured(1.0, monkeypatch, slowed=True, clocks=slow)
    assert row.status == "unstable"
    assert row.reason == "the GPU was slowed throughout: thermal slowdown"
    assert row.samples_ms == (1.0,) * 20


def test_a_mode_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(mode: str, calls: object, budget: object) -> Measurement:
        if mode == "graph":
            raise RuntimeError("graph: capture failed")
        return Measurement((1.0,) * 20, "interval", Clocks(), slowed=False)

    monkeypatch.setattr(timing, "measure", measure)
    eager, graph, device = rows(timings=("eager", "graph", "device"))
    assert eager.status == "ok"
    assert (graph.status, graph.reason) == ("failed", "RuntimeError: graph: capture failed")
    assert device.status == "ok"


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device: (2**20, 2**34))
    assert {row.status for row in rows()} == {"oom"}
    assert not bound
