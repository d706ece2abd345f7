"""Rows on a real GPU: the three latencies are consistent, and a cold cache is cold."""

from dataclasses import replace

import pytest
import torch

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure import ceilings
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.records.schema import Row
from gspn2bench.run import interleave
from gspn2bench.run.trial import Settings

pytestmark = [pytest.mark.gpu, pytest.mark.alone]


@pytest.fixture(scope="module")
def bounds() -> Ceilings:
    return ceilings.measure()


def rows(case: Case, rung: str, settings: Settings, bounds: Ceilings) -> dict[str, Row]:
    result = list(interleave.measure_rung(case, LADDER[rung], settings, bounds))
    for row in result:
        assert row.status == "ok", row.reason
    return {row.timing: row for row in result}


def test_the_ceilings_are_plausible(bounds: Ceilings) -> None:
    samples = sorted(bounds.copy_samples_gbps)
    assert samples[0] > 50
    assert samples[-1] < 1.1 * samples[len(samples) // 2]
    assert bounds.fma_us is not None
    assert bounds.shuffle_step_us is not None
    assert bounds.step_us is not None
    # four cycles per FMA at 1 to 2 GHz, and each step has at least two of them
    assert 0.0019 < bounds.fma_us < 0.0045
    assert 2 * bounds.fma_us < bounds.shuffle_step_us < bounds.step_us < 1.0
    assert bounds.launch_us is not None
    assert 0.3 < bounds.launch_us < 10.0


@pytest.mark.parametrize("rung", ["r01", "r07"])
def test_three_latencies_of_one_case(rung: str, bounds: Ceilings) -> None:
    case = Case(4, 8, 512, 512)
    by_timing = rows(case, rung, Settings("test"), bounds)
    eager, graph, device = (
        by_timing[mode].latency_ms or 0 for mode in ("eager", "graph", "device")
    )
    assert 0 < device <= 1.05 * graph
    assert graph <= 1.05 * eager
    for row in by_timing.values():
        assert row.launches_observed == row.launches_expected
        assert row.floor_ms is not None
        assert row.latency_ms is not None
        assert row.latency_ms > 0.97 * row.floor_ms
        assert row.latency_ms_low is not None
        assert row.latency_ms_high is not None
        assert row.latency_ms_low <= row.latency_ms <= row.latency_ms_high
        assert row.clock_mhz


def test_cold_is_slower_than_warm_on_a_case_that_fits_the_cache(bounds: Ceilings) -> None:
    case = Case(4, 16, 128, 128)  # 25 MB
    settings = Settings("test", timings=("graph",))
    cold = rows(case, "r07", settings, bounds)["graph"]
    warm = rows(case, "r07", replace(settings, l2="warm"), bounds)["graph"]
    assert (cold.l2, warm.l2) == ("cold", "warm")
    assert (cold.latency_ms_low or 0) > (warm.latency_ms_high or 0)


def test_a_case_too_small_to_be_made_cold_is_recorded_as_warm(bounds: Ceilings) -> None:
    assert rows(Case(1, 1, 8, 8), "r07", Settings("test"), bounds)["graph"].l2 == "warm"


@pytest.mark.parametrize("size", [(4096, 1), (4096, 2), (2048, 33), (16, 16)])
def test_no_rung_is_below_the_floor_of_its_chain(size: tuple[int, int], bounds: Ceilings) -> None:
    settings = Settings("test", timings=("graph", "device"))
    for rung in ("r06c", "r07"):
        for row in rows(Case(1, 1, *size), rung, settings, bounds).values():
            assert row.floor_bound == "chain"
            assert (row.latency_ms or 0) > (row.floor_ms or 1)


def test_a_case_too_large_is_oom_and_leaves_the_gpu_usable(bounds: Ceilings) -> None:
    for row in interleave.measure_rung(
        Case(2**20, 64, 1024, 1024), LADDER["r07"], Settings("test"), bounds
    ):
        assert row.status == "oom"
    assert rows(Case(1, 1, 8, 8), "r07", Settings("test"), bounds)
    assert torch.cuda.memory_allocated() < 2**20
