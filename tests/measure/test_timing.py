"""Sampling, graphs, rotation and clocks, without a GPU; tests that need one are marked gpu."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import chain, count, cycle

import numpy as np
import pytest
import torch

from gspn2bench.kernels import jit
from gspn2bench.measure import clocks, l2_cache, launches, timing, warm_up
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.intervals import median_interval
from gspn2bench.measure.timing import Sampler
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Timing

H200_L2 = 60 * 2**20


def nothing() -> None:
    pass


@pytest.mark.parametrize("set_bytes", [61_500, 2**20, 25 * 2**20, 119 * 2**20, 2**27, 2**32])
def test_twice_the_cache_is_moved_before_a_set_is_used_again(set_bytes: int) -> None:
    sets = l2_cache.rotation_sets(set_bytes, H200_L2)
    assert sets <= timing.MAX_SETS
    between = (sets - 1) * set_bytes if sets > 1 else set_bytes
    assert between >= 2 * H200_L2


@pytest.fixture(autouse=True)
def one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up of one sample, on a GPU that needs no synchronization."""
    monkeypatch.setattr(warm_up, "FIRST", warm_up.ONE_SAMPLE)
    monkeypatch.setattr(warm_up, "LATER", warm_up.ONE_SAMPLE)
    if jit.SIMULATED:
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Clocks]:
    """The readings that ``clocks.read`` returns; the last one repeats. Steady by default."""
    queue = [Clocks(1980.0, 40.0, "")]
    monkeypatch.setattr(clocks, "read", lambda: queue.pop(0) if queue[1:] else queue[0])
    return queue


def device_samples(monkeypatch: pytest.MonkeyPatch, values: Iterable[float]) -> None:
    endless = iter(values)
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [next(endless) for _ in calls])


@pytest.mark.usefixtures("readings")
def test_sampling_stops_when_the_interval_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    device_samples(monkeypatch, cycle([1.0, 1.001, 0.999]))
    measurement = timing.measure("device", [nothing], timing.Budget(100, 60.0))
    assert measurement.stopped == "interval"
    assert len(measurement.samples) == 15
    low, high = measurement.interval
    assert high - low <= 0.01


@pytest.mark.usefixtures("readings")
@pytest.mark.parametrize(("step", "stopped"), [(0.0099, "interval"), (0.0103, "samples")])
def test_sampling_continues_while_the_interval_is_wider_than_the_budget(
    step: float, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends of the interval are the two values, which differ by just below or above 1 %."""
    device_samples(monkeypatch, cycle([1.0, 1.0 + step]))
    measurement = timing.measure("device", [nothing], timing.Budget(35, 60.0, 0.01))
    assert measurement.stopped == stopped
    assert measurement.interval == (1.0, 1.0 + step)


@pytest.mark.usefixtures("readings")
def test_sampling_stops_at_the_limit_of_samples_or_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    device_samples(monkeypatch, (float(noise.uniform(1, 3)) for _ in count()))
    by_samples = timing.measure("device", [nothing], timing.Budget(32, 60.0))
    assert (by_samples.stopped, len(by_samples.samples)) == ("samples", 32)
    by_time = timing.measure("device", [nothing], timing.Budget(1000, 0.0))
    assert (by_time.stopped, len(by_time.samples)) == ("time", 5)
    single = timing.measure("device", [nothing], timing.Budget(1, 60.0))
    assert (single.stopped, len(single.samples)) == ("samples", 1)


@pytest.mark.usefixtures("readings")
def test_outliers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    device_samples(monkeypatch, chain([9.0], cycle([1.0])))
    measurement = timing.measure("device", [nothing], timing.Budget(100, 60.0))
    assert measurement.samples[0] == 9.0


SLOW = Clocks(900.0, 90.0, "hardware thermal slowdown")


def test_a_throttled_sample_block_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, readings: list[Clocks]
) -> None:
    readings.insert(0, SLOW)
    device_samples(monkeypatch, chain([5.0] * 5, cycle([1.0])))
    measurement = timing.measure("device", [nothing], timing.Budget(100, 60.0))
    assert not measurement.slowed
    assert set(measurement.samples) == {1.0}
    assert measurement.clocks == Clocks(1980.0, 40.0, "")


def test_lasting_throttling_is_recorded(
    monkeypatch: pytest.MonkeyPatch, readings: list[Clocks]
) -> None:
    readings[:] = [SLOW]
    device_samples(monkeypatch, cycle([5.0]))
    measurement = timing.measure("device", [nothing], timing.Budget(100, 60.0))
    assert measurement.slowed
    assert measurement.clocks == SLOW
    assert measurement.samples


@pytest.mark.parametrize("slow_block", [0, 1])
def test_any_sample_block_that_was_kept_decides_whether_the_gpu_was_slowed(
    slow_block: int, monkeypatch: pytest.MonkeyPatch, readings: list[Clocks]
) -> None:
    steady = readings[0]
    kept = [steady, steady]
    kept[slow_block] = SLOW
    readings[:] = [*[SLOW] * timing.MAX_RETRIES, *kept, steady]
    device_samples(monkeypatch, cycle([1.0]))
    measurement = timing.measure("device", [nothing], timing.Budget(15, 60.0, 0.0))
    assert len(measurement.samples) == 15
    assert measurement.slowed
    assert measurement.clocks.throttle == SLOW.throttle


def test_the_power_cap_is_recorded_but_does_not_count_as_slowed(
    monkeypatch: pytest.MonkeyPatch, readings: list[Clocks]
) -> None:
    readings[:] = [Clocks(1700.0, 60.0, "power cap")]
    device_samples(monkeypatch, cycle([1.0]))
    measurement = timing.measure("device", [nothing], timing.Budget(100, 60.0))
    assert not measurement.slowed
    assert measurement.clocks.throttle == "power cap"


def test_another_reason_beside_the_power_cap_counts_as_slowed() -> None:
    assert Clocks(900.0, 90.0, "power cap, thermal slowdown").slowed
    assert Clocks(900.0, 90.0, "thermal slowdown").slowed
    assert not Clocks(900.0, 90.0, "power cap").slowed
    assert not Clocks(900.0, 90.0, "").slowed
    assert not Clocks().slowed


def test_readings_are_combined() -> None:
    three = [Clocks(1900.0, 40.0, ""), Clocks(1980.0, 50.0, "power cap"), Clocks(1950.0)]
    assert clocks.combine(three) == Clocks(1950.0, 50.0, "power cap")
    assert clocks.combine([Clocks()]) == Clocks()


class FakeGraph:
    def __init__(self, calls: int, call_ms: float) -> None:
        self.calls, self.ms = calls, calls * call_ms

    def replay(self) -> float:
        return self.ms


@pytest.mark.parametrize("call_ms", [31.6, 0.77, 0.002])
@pytest.mark.parametrize("sets", [1, 6])
def test_a_graph_holds_enough_calls_in_whole_rotations(
    call_ms: float, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[FakeGraph] = []

    def capture(calls: object, repeat: int) -> FakeGraph:
        graphs.append(FakeGraph(repeat, call_ms))
        return graphs[-1]

    monkeypatch.setattr(timing, "_capture", capture)
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: action())
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: 3 * graph.calls)
    measurement = timing.measure("graph", [nothing] * sets, timing.Budget(5, 1.0))
    assert measurement.samples == pytest.approx([call_ms] * 5)
    assert measurement.nodes == 3
    assert graphs[-1].ms >= timing.MIN_REPLAY_MS
    assert all(graph.calls % sets == 0 for graph in graphs)
    assert len(graphs) <= 3


def test_a_call_too_short_to_be_timed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_capture", lambda calls, repeat: FakeGraph(repeat, 1e-9))
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: action())
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: graph.calls)
    with pytest.raises(RuntimeError, match=r"graph: 20000 calls take only"):
        timing.measure("graph", [nothing], timing.Budget(5, 1.0))


@pytest.mark.parametrize("captured", [0, 9, 11])
def test_a_graph_that_does_not_hold_the_calls_launches_is_an_error(
    captured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens when a kernel runs on a side stream, which is not captured."""
    monkeypatch.setattr(timing, "_capture", lambda calls, repeat: FakeGraph(repeat, 1.0))
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: action())
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: captured)
    sampler = Sampler("graph", [nothing] * 5, timing.Budget(), nodes=2)
    with pytest.raises(
        RuntimeError, match=f"holds {captured} launches for 5 calls of 2 launches each"
    ):
        sampler.take_block()
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: 2 * graph.calls)
    assert Sampler("graph", [nothing] * 5, timing.Budget(), nodes=2).take_block() is None


def test_an_empty_graph_is_an_error_even_if_no_launches_are_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "_capture", lambda calls, repeat: FakeGraph(repeat, 1.0))
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: 0)
    with pytest.raises(RuntimeError, match="holds 0 launches for 5 calls; work on"):
        Sampler("graph", [nothing] * 5, timing.Budget()).take_block()


def test_device_time_is_summed_over_the_launches_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [0.25, 0.5] * len(calls))
    measurement = timing.measure("device", [nothing], timing.Budget(5, 60.0))
    assert measurement.samples == (0.75,) * 5


def test_launches_that_are_not_a_multiple_of_the_calls_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [1.0] * (2 * len(calls) + 1))
    with pytest.raises(RuntimeError, match="11 launches observed in 5 identical calls"):
        timing.measure("device", [nothing], timing.Budget(5, 60.0))


@pytest.mark.usefixtures("readings")
def test_the_rotation_continues_across_sample_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    noise = iter(np.random.default_rng(0).uniform(1, 3, 100))

    def durations(calls: list[Callable[[], None]]) -> list[float]:
        for call in calls:
            call()
        return [float(next(noise)) for _ in calls]

    calls = [lambda i=i: order.append(i) for i in range(3)]
    monkeypatch.setattr(timing, "durations_ms", durations)
    timing.measure("device", calls, timing.Budget(11, 60.0))
    # 5 samples and 6 samples, each after one unmeasured call
    assert order == [i % 3 for i in range(13)]


@pytest.mark.usefixtures("readings")
@pytest.mark.parametrize("mode", ["eager", "device"])
def test_samplers_on_the_same_sets_share_one_rotation(
    mode: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the second would start on the sets that the first has just made warm."""
    order: list[int] = []

    def durations(calls: list[Callable[[], None]]) -> list[float]:
        for call in calls:
            call()
        return [1.0 for _ in calls]

    monkeypatch.setattr(timing, "durations_ms", durations)
    calls = [lambda i=i: order.append(i) for i in range(7)]
    shared = count()
    samplers = [Sampler(mode, calls, timing.Budget(50, 60.0), shared) for _ in range(2)]
    for _ in range(2):
        for sampler in samplers:
            sampler.take_block()
    assert order == [i % 7 for i in range(len(order))]
    assert len(order) == 2 * (1 + 5 + 1 + 10)


@pytest.mark.usefixtures("readings")
@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("mode", ["eager", "graph", "device"])
def test_persisting_lines_are_reset_before_cold_samples(
    mode: Timing, cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def take(action: Callable[[], object]) -> float:
        events.append("sample")
        return 10.0

    def durations(calls: list[Callable[[], None]]) -> list[float]:
        events.append("samples")
        return [1.0 for _ in calls]

    monkeypatch.setattr(l2_cache, "reset_persisting_lines", lambda: events.append("reset"))
    monkeypatch.setattr(timing, "durations_ms", durations)
    monkeypatch.setattr(timing, "_capture", lambda calls, repeat: FakeGraph(repeat, 10.0))
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: graph.calls)
    monkeypatch.setattr(timing, "elapsed_ms", take)
    sampler = Sampler(mode, [lambda: events.append("sample")], timing.Budget(2, 60.0), cold=cold)
    assert sampler.take_block() is not None
    if mode == "graph":
        events = events[3:]  # replays that find the length of the graph
    # one sample of the warm-up, then two of the block; a profiled block is taken at once
    profiled = ["reset", "sample", "reset", "samples"]
    expected = profiled if mode == "device" else ["reset", "sample"] * 3
    assert events == [event for event in expected if cold or event != "reset"]


def test_the_reset_is_a_call_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import driver

    called: list[str] = []
    monkeypatch.setattr(driver, "cuCtxResetPersistingL2Cache", lambda: called.append("reset"))
    l2_cache.reset_persisting_lines()
    assert called == ([] if jit.SIMULATED else ["reset"])
    monkeypatch.setattr(jit, "SIMULATED", False)
    l2_cache.reset_persisting_lines()
    assert called[-1:] == ["reset"]


@pytest.mark.usefixtures("readings")
def test_each_sample_block_has_its_size_and_clock(
    monkeypatch: pytest.MonkeyPatch, readings: list[Clocks]
) -> None:
    readings[:] = [Clocks(1980.0), SLOW, Clocks(1965.0), Clocks(None), Clocks(1950.0)]
    noise = np.random.default_rng(0)
    device_samples(monkeypatch, (float(noise.uniform(1, 3)) for _ in count()))
    measurement = timing.measure("device", [nothing], timing.Budget(28, 60.0))
    # the throttled block was measured again
    assert measurement.blocks == (5, 10, 10, 3)
    assert measurement.block_clocks_mhz == (1980.0, 1965.0, None, 1950.0)
    assert sum(measurement.blocks) == len(measurement.samples)


def test_a_captured_graph_holds_the_call_on_every_operand_set_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[int] = []

    class Graph:
        def __init__(self, **options: object) -> None:
            pass

        def instantiate(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    timing._capture([lambda i=i: order.append(i) for i in range(3)], 6)
    assert order == [0, 1, 2, 0, 1, 2]


def test_the_interval_is_that_of_the_median() -> None:
    skewed = [1.0] * 30 + [9.0] * 3
    assert median_interval(skewed) == (1.0, 1.0)


def test_the_interval_contains_the_median_and_narrows_with_more_samples() -> None:
    few = [1.0, 1.1, 0.9, 1.05, 0.95]
    low, high = median_interval(few)
    assert 0.9 <= low <= 1.0 <= high <= 1.1
    narrow = median_interval(few * 40)
    assert narrow[1] - narrow[0] < high - low
    assert median_interval([2.0]) == (2.0, 2.0)
    assert median_interval([2.0] * 9) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("cold_ms", "warm_ms", "cold"),
    [
        (0.02, 0.01, True),
        (0.01, 0.01, False),
        (0.01, 0.02, False),
        (None, None, False),
        (0.02, None, False),
        (None, 0.01, False),
    ],
)
def test_the_cache_counts_as_cold_only_if_cold_was_measured_to_be_slower(
    cold_ms: float | None, warm_ms: float | None, cold: bool
) -> None:
    assert Ceilings(l2_cold_ms=cold_ms, l2_warm_ms=warm_ms).cold_is_cold is cold


def test_the_copy_bandwidth_is_the_median() -> None:
    assert Ceilings((4000.0, 4100.0, 9000.0)).copy_gbps == 4100.0
    assert Ceilings().copy_gbps is None


def test_the_floor_is_the_longer_of_bytes_and_chain() -> None:
    ceilings = Ceilings((4000.0, 4100.0, 4200.0), fma_us=0.05, launch_us=2.0)
    large = ScanProblem(16, 8, 1024, 1024)
    copy_ms = pytest.approx(large.compulsory_bytes / 4100.0e6)
    assert ceilings.floor(large.compulsory_bytes, 2045, "graph") == (copy_ms, "bytes")
    single = ScanProblem(1, 1, 1024, 1024)
    for mode, launch_us in (("eager", 2.0), ("graph", 2.0), ("device", 0.0)):
        floor = ceilings.floor(single.compulsory_bytes, 2045, mode)
        assert floor == (pytest.approx((launch_us + 2045 * 0.05) / 1e3), "chain")
    assert ceilings.floor(0, 0, "device") is None
    assert ceilings.floor(0, 0, "graph") == (pytest.approx(2e-3), "chain")
    assert Ceilings().floor(large.compulsory_bytes, 2045, "graph") is None


@pytest.mark.gpu
@pytest.mark.alone
def test_every_mode_measures_a_kernel_of_known_length() -> None:
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)

    def double() -> None:
        torch.mul(source, 2.0, out=target)

    calls = [double]
    double()
    eager, graph, device = (
        min(timing.measure(mode, calls, timing.Budget(10, 2.0)).samples)
        for mode in ("eager", "graph", "device")  # type: ignore[arg-type]
    )
    assert launches.count_launches(calls[0]) == 1
    assert device <= graph * 1.02 <= eager * 1.05


@pytest.mark.gpu
@pytest.mark.alone
def test_work_on_a_side_stream_is_missing_from_the_graph_and_reported() -> None:
    x, side = torch.zeros(32, device="cuda"), torch.cuda.Stream()

    def call() -> None:
        x.add_(1.0)
        with torch.cuda.stream(side):
            x.add_(1.0)

    call()
    assert launches.count_launches(call) == 2
    with pytest.raises(RuntimeError, match="holds 1 launches for 1 calls of 2 launches each"):
        Sampler("graph", [call], timing.Budget(), nodes=2).take_block()


@pytest.mark.gpu
@pytest.mark.alone
def test_launches_are_counted_one_by_one() -> None:
    x = torch.zeros(32, device="cuda")

    def call() -> None:
        for _ in range(17):
            x.add_(1.0)

    call()
    assert launches.count_launches(call) == 17
