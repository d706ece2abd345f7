"""A trial on a fake GPU: its rows, and the numbers that are flagged."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pytest
import torch

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.measure import l2_cache, launches, timing
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.timing import Measurement
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Row
from gspn2bench.run import interleave
from gspn2bench.run.trial import HEADROOM_BYTES, Settings
from gspn2bench.system import executables

from ..helpers.pretended_gpu import BOUNDS, CASE, COPY_MS, FOOTPRINT, L2_BYTES, bind, pretended_gpu
from ..helpers.pretended_gpu import RUNG as REFERENCE

pytestmark = pytest.mark.usefixtures(pretended_gpu.__name__)
bound: list[Operands] = []


def bind_and_record(problem: ScanProblem, operands: Operands) -> Call:
    bound.append(operands)
    return bind(problem, operands)


RUNG: Rung = replace(REFERENCE, forward=bind_and_record)


@pytest.fixture(autouse=True)
def clear_bound() -> None:
    bound.clear()


def rows(**settings: object) -> list[Row]:
    all_settings = replace(Settings("pretended", timings=("eager", "device")), **settings)  # type: ignore[arg-type]
    return list(interleave.measure_rung(CASE, RUNG, all_settings, BOUNDS))


def test_a_whole_trial() -> None:
    eager, device = rows(budget=timing.Budget(15, 600.0))  # however slow the machine is
    for row in (eager, device):
        assert row.status == "ok", row.reason
        assert row.reason is None
        assert not row.simulated
        assert row.l2 == "cold"
        assert row.launches_observed == 1
        assert row.peak_memory_bytes == FOOTPRINT
        assert row.compile_s is not None
        assert row.compile_s >= 0
        assert row.copy_gbps == 4000.0
        launch_us = 2.0 if row.timing == "eager" else 0.0
        # 31 lines after the first, of 6 * 31 / 94 FMAs each, rounded down
        assert row.floor_ms == pytest.approx((61 * 0.05 + launch_us) / 1e3)
        assert row.floor_bound == "chain"
        assert row.clock_mhz == 1980.0
        assert row.stopped is not None
        assert row.latency_ms_low is not None
        assert row.latency_ms_high is not None
        assert row.latency_ms_low <= (row.latency_ms or 0) <= row.latency_ms_high
    assert device.latency_ms == pytest.approx(COPY_MS)
    assert device.stopped == "interval"
    assert eager.host_ms == median(eager.host_samples_ms)
    assert len(eager.host_samples_ms) >= 3
    assert (device.host_ms, device.host_samples_ms) == (None, ())


def test_no_host_time_if_launches_are_unknown_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    once = {"timings": ("eager",), "budget": timing.Budget(1, 60.0)}
    (row,) = rows(**once)
    assert row.host_ms is not None
    with monkeypatch.context() as patch:
        patch.setenv(executables.PROFILED, "nsys")
        (row,) = rows(**once)
    assert row.latency_ms is not None
    assert (row.host_ms, row.launches_observed) == (None, None)
    monkeypatch.setattr(launches, "durations_ms", lambda calls: [COPY_MS] * 1024 * len(calls))
    many = replace(RUNG, launches=lambda problem: 1024)
    (row,) = interleave.measure_rung(CASE, many, Settings("pretended", **once), BOUNDS)  # type: ignore[arg-type]
    assert (row.status, row.launches_observed, row.host_ms) == ("ok", 1024, None)


def test_a_cold_cache_takes_enough_operand_sets() -> None:
    rows()
    sets = bound[1:]  # the first is that of the preflight
    assert len(sets) == l2_cache.rotation_sets(FOOTPRINT, L2_BYTES) == 6
    assert len({operands.x.data_ptr() for operands in sets}) == 6
    bound.clear()
    assert {row.l2 for row in rows(l2="warm")} == {"warm"}
    assert len(bound) == 2


def test_a_case_too_small_to_be_made_cold_is_recorded_as_warm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "MAX_SETS", 5)
    assert {row.l2 for row in rows()} == {"warm"}
    assert len(bound) == 2


class Fixed:
    """A sampler that needs one sample block."""

    measurement = Measurement((1.0,) * 20, "interval", Clocks(1980.0, 40.0, ""), slowed=False)

    def __init__(self, mode: str, calls: Sequence[Call], *arguments: object) -> None:
        self.mode, self.calls = mode, calls

    def take_block(self) -> Measurement:
        if self.mode == "eager":
            raise RuntimeError("eager: planted")
        return self.measurement

    def next_set(self) -> int:
        return 0

    def rerun(self, index: int) -> None:
        self.calls[index]()


def measured(latency_ms: float, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Row:
    fixed = replace(Fixed.measurement, samples=(latency_ms,) * 20, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(Fixed, "measurement", fixed)
    monkeypatch.setattr(interleave, "Sampler", Fixed)
    return rows(timings=("graph",))[0]


def test_a_row_faster_than_a_copy_is_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(COPY_MS / 1.02, monkeypatch).reason is None
    suspect = measured(COPY_MS / 1.05, monkeypatch)
    assert suspect.status == "ok"
    assert suspect.reason == "suspect: 105% of copy bandwidth"


def test_a_row_on_a_warm_cache_may_be_faster_than_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data need not come from DRAM."""
    fixed = replace(Fixed.measurement, samples=(COPY_MS / 10,) * 20)
    monkeypatch.setattr(Fixed, "measurement", fixed)
    monkeypatch.setattr(interleave, "Sampler", Fixed)
    slow_copy = replace(BOUNDS, copy_samples_gbps=(1.0,))
    for bounds in (BOUNDS, replace(BOUNDS, l2_cold_ms=None), slow_copy):
        monkeypatch.setitem(globals(), "BOUNDS", bounds)
        (row,) = rows(timings=("graph",), l2="warm")
        assert (row.l2, row.status, row.reason) == ("warm", "ok", None)
        # a launch and the chain of FMAs, and no bytes of DRAM
        assert row.floor_ms == pytest.approx((2 + 61 * 0.05) / 1e3)


def test_the_latency_is_the_median_of_skewed_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians that differ from the mean, the fastest sample and the middle of the interval."""
    samples = (0.5,) * 2 + (1.0,) * 8 + (1.25,) * 3 + (9.0,) * 2
    fixed = replace(Fixed.measurement, samples=samples, host_samples=(0.5, 0.25, 9.0))
    monkeypatch.setattr(Fixed, "measurement", fixed)
    monkeypatch.setattr(interleave, "Sampler", Fixed)
    (row,) = rows(timings=("graph",))
    assert row.latency_ms == 1.0
    assert row.host_ms == 0.5
    assert (row.latency_ms_low, row.latency_ms_high) == fixed.interval
    assert fixed.interval[0] == 1.0
    assert fixed.interval[1] > 1.0


def test_a_result_that_is_stale_on_changed_inputs_is_incorrect() -> None:
    def forward(problem: ScanProblem, operands: Operands) -> Call:
        correct, results = bind(problem, operands), []

        def call() -> None:
            if not results:
                correct()
                results.append(operands.h.clone())
            operands.h.copy_(results[0])

        return call

    rung, settings = replace(REFERENCE, forward=forward), Settings("pretended", ("device",))
    (row,) = interleave.measure_rung(CASE, rung, settings, BOUNDS)
    assert row.status == "incorrect"
    assert (row.reason or "").startswith("on changed inputs, h: error")


def test_more_launches_than_declared_are_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    for observed in (2, 4):
        durations = [COPY_MS] * observed
        monkeypatch.setattr(launches, "durations_ms", lambda calls, ms=durations: ms)
        rung = replace(REFERENCE, launches=lambda problem: 3)
        settings = Settings("pretended", ("device",))
        (row,) = interleave.measure_rung(CASE, rung, settings, BOUNDS)
        assert (row.status, row.launches_observed) == ("invalid", observed)
        assert row.reason == f"launches: {observed} observed, 3 declared"


def test_a_row_is_suspect_if_the_cache_was_never_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "BOUNDS", replace(BOUNDS, l2_cold_ms=0.01))
    row = measured(COPY_MS, monkeypatch)
    assert row.reason == "suspect: no evidence that rotating operand sets kept the L2 cache cold"


def test_a_gpu_that_stays_slowed_makes_the_row_unstable(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Clocks(900.0, 95.0, "thermal slowdown")
    row = measured(1.0, monkeypatch, slowed=True, clocks=slow)
    assert row.status == "unstable"
    assert row.reason == "the GPU was slowed throughout: thermal slowdown"
    assert row.samples_ms == (1.0,) * 20


def test_a_failing_mode_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "Sampler", Fixed)
    graph, eager, device = rows(timings=("graph", "eager", "device"))
    assert graph.status == "ok"
    assert (eager.status, eager.reason) == ("failed", "RuntimeError: eager: planted")
    assert device.status == "ok"


@pytest.mark.parametrize(("samples", "count"), [(1, 1), (100, 15)])
def test_equal_samples_or_a_single_sample_make_a_row(samples: int, count: int) -> None:
    (row,) = rows(timings=("device",), budget=timing.Budget(samples, 60.0))
    assert row.status == "ok", row.reason
    assert row.samples_ms == (COPY_MS,) * count
    assert row.latency_ms == row.latency_ms_low == row.latency_ms_high == COPY_MS
    assert row.stopped == ("samples" if samples == 1 else "interval")


def test_a_case_larger_than_memory_is_oom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device: (2**20, 2**34))
    assert {row.status for row in rows()} == {"oom"}
    assert not bound


@pytest.mark.parametrize(("l2", "sets"), [("cold", 6), ("warm", 1)])
def test_all_operand_sets_and_the_headroom_must_fit(
    l2: str, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sets * FOOTPRINT + HEADROOM_BYTES
    statuses = {}
    for free in (needed, needed - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device, free=free: (free, 2**34))
        statuses[free] = {row.status for row in rows(l2=l2, timings=("device",))}
    assert statuses == {needed: {"ok"}, needed - 1: {"oom"}}
