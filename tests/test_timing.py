"""The clockwork of the measurement, without a GPU; what needs one is marked gpu."""

from collections.abc import Callable

import pytest
import torch

from gspn2bench.measure import launches, timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.statistics import median_interval
from gspn2bench.problem import ScanProblem

H200_L2 = 60 * 2**20


def nothing() -> None:
    pass


@pytest.mark.parametrize("footprint", [61_500, 2**20, 25 * 2**20, 119 * 2**20, 2**27, 2**32])
def test_a_rotation_passes_twice_the_cache_before_a_set_returns(footprint: int) -> None:
    sets = timing.rotation(footprint, H200_L2)
    assert sets <= timing.MAX_SETS
    between = (sets - 1) * footprint if sets > 1 else footprint
    assert between >= 2 * H200_L2


def test_samples_stop_at_their_number_or_their_time() -> None:
    assert len(timing._collect(float, timing.Budget(12, 60.0))) == 12
    assert len(timing._collect(float, timing.Budget(12, 0.0))) == timing.MIN_SAMPLES
    assert len(timing._collect(float, timing.Budget(2, 0.0))) == 2


class FakeGraph:
    def __init__(self, calls: int, call_ms: float) -> None:
        self.calls, self.ms = calls, calls * call_ms

    def replay(self) -> float:
        return self.ms


@pytest.mark.parametrize("call_ms", [31.6, 0.77, 0.002])
@pytest.mark.parametrize("sets", [1, 6])
def test_a_graph_holds_enough_calls_in_whole_turns_of_the_rotation(
    call_ms: float, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[FakeGraph] = []

    def capture(calls: object, repeat: int) -> FakeGraph:
        graphs.append(FakeGraph(repeat, call_ms))
        return graphs[-1]

    monkeypatch.setattr(timing, "_capture", capture)
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: action())
    samples = timing.measure("graph", [nothing] * sets, timing.Budget(5, 1.0))
    assert samples == pytest.approx([call_ms] * 5)
    assert graphs[-1].ms >= timing.MIN_REPLAY_MS
    assert all(graph.calls % sets == 0 for graph in graphs)
    assert len(graphs) <= 3


def test_a_call_too_short_to_be_timed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_capture", lambda calls, repeat: FakeGraph(repeat, 1e-9))
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: action())
    with pytest.raises(RuntimeError, match=r"graph: 20000 calls last only"):
        timing.measure("graph", [nothing], timing.Budget(5, 1.0))


def test_device_time_is_summed_over_the_launches_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [0.25, 0.5] * len(calls))
    assert timing.measure("device", [nothing], timing.Budget(7, 60.0)) == (0.75,) * 7


def test_launches_that_do_not_divide_among_the_calls_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [1.0] * (2 * len(calls) + 1))
    with pytest.raises(RuntimeError, match="11 launches seen in 5 equal calls"):
        timing.measure("device", [nothing], timing.Budget(5, 60.0))


def test_the_rotation_starts_with_a_set_that_nothing_has_touched_of_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[int] = []

    def durations(calls: list[Callable[[], None]]) -> list[float]:
        for call in calls:
            call()
        return [1.0] * len(calls)

    calls = [lambda i=i: order.append(i) for i in range(3)]
    monkeypatch.setattr(timing, "durations_ms", durations)
    timing.measure("device", calls, timing.Budget(5, 60.0))
    assert order == [2, 0, 1, 2, 0, 1]


def test_the_interval_holds_the_median_and_narrows() -> None:
    few = [1.0, 1.1, 0.9, 1.05, 0.95]
    low, high = median_interval(few)
    assert 0.9 <= low <= 1.0 <= high <= 1.1
    narrow = median_interval(few * 40)
    assert narrow[1] - narrow[0] < high - low
    assert median_interval([2.0]) == (2.0, 2.0)
    assert median_interval([2.0] * 9) == (2.0, 2.0)


def test_the_floor_is_bytes_or_steps_whichever_takes_longer() -> None:
    ceilings = Ceilings((4000.0, 4100.0, 4200.0), step_us=0.05)
    large = ScanProblem(16, 8, 1024, 1024)
    assert ceilings.floor_ms(large.compulsory_bytes, 1024) == pytest.approx(
        large.compulsory_bytes / 4100.0e6
    )
    single = ScanProblem(1, 1, 1024, 1024)
    chain = ceilings.floor_ms(single.compulsory_bytes, 1024)
    assert chain == pytest.approx(1024 * 0.05e-3)
    assert Ceilings().floor_ms(large.compulsory_bytes, 1024) is None


@pytest.mark.gpu
def test_every_mode_measures_a_kernel_of_known_length() -> None:
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)

    def double() -> None:
        torch.mul(source, 2.0, out=target)

    calls = [double]
    double()
    eager, graph, device = (
        min(timing.measure(mode, calls, timing.Budget(10, 2.0)))
        for mode in ("eager", "graph", "device")  # type: ignore[arg-type]
    )
    assert launches.observe(calls[0]) == 1
    assert device <= graph * 1.02 <= eager * 1.05


@pytest.mark.gpu
def test_launches_are_counted_one_by_one() -> None:
    x = torch.zeros(32, device="cuda")

    def call() -> None:
        for _ in range(17):
            x.add_(1.0)

    call()
    assert launches.observe(call) == 17
