"""Host time on a fake GPU with a clock of its own: a batch never contains a wait for the GPU."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from gspn2bench.measure import clocks, host, timing, warm_up
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.timing import Budget, Measurement
from gspn2bench.records.schema import Timing

QUEUE = 1000


class FakeGpu:
    """A GPU whose driver queues ``QUEUE`` launches; a further launch waits for a free place.

    Attributes:
        now_ms: the time of the host.
        calls: calls so far.
        waited: whether a launch ever waited.
        batches: calls between two synchronizations.
    """

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.ends: list[float] = []
        self.waited = False
        self.batches = [0]

    def call(self, launches: int, host_ms: float, gpu_ms: float) -> Callable[[], None]:
        """A call of that host time and GPU time, spread over its launches."""

        def issue() -> None:
            self.batches[-1] += 1
            for _ in range(launches):
                self.now_ms += host_ms / launches
                queued = [end for end in self.ends[-QUEUE:] if end > self.now_ms]
                if len(queued) == QUEUE:
                    self.waited = True
                    self.now_ms = queued[0]
                start = max(self.now_ms, self.ends[-1] if self.ends else 0.0)
                self.ends.append(start + gpu_ms / launches)

        return issue

    def synchronize(self) -> None:
        if self.ends:
            self.now_ms = max(self.now_ms, self.ends[-1])
        self.batches.append(0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    clock = SimpleNamespace(perf_counter=lambda: fake.now_ms / 1e3)
    monkeypatch.setattr(host, "time", clock)
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(warm_up, "FIRST", warm_up.ONE_SAMPLE)
    monkeypatch.setattr(warm_up, "LATER", warm_up.ONE_SAMPLE)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(clocks, "read", lambda: Clocks(1980.0, 40.0, ""))
    return fake


def eager(call: Callable[[], None], launches: int | None, **budget: float) -> Measurement:
    sampler = timing.Sampler(
        "eager",
        [call],
        Budget(**budget),
        launches_observed=launches,  # type: ignore[arg-type]
    )
    while (measurement := sampler.take_block()) is None:
        pass
    return measurement


@pytest.mark.parametrize(
    ("launches", "host_ms", "gpu_ms"),
    [
        (5, 0.1, 5.0),
        (27, 0.8, 0.05),
        (100, 1.0, 1.9),
        (124, 5.0, 30.0),
        (500, 2.0, 80.0),
        (9, 0.08, 2000.0),
    ],
)
def test_the_wait_for_the_gpu_is_not_host_time(
    launches: int, host_ms: float, gpu_ms: float, gpu: FakeGpu
) -> None:
    measurement = eager(gpu.call(launches, host_ms, gpu_ms), launches)
    assert measurement.host_samples == pytest.approx([host_ms] * len(measurement.host_samples))
    assert measurement.host_samples
    assert min(measurement.samples) >= max(host_ms, gpu_ms)
    assert not gpu.waited


def test_a_batch_that_fills_the_queue_would_contain_a_wait(gpu: FakeGpu) -> None:
    """The fake GPU shows the fault that the bound on launches prevents."""
    call = gpu.call(100, 1.0, 50.0)
    (sample,) = host.samples_ms(call, 50, 1)
    assert gpu.waited
    assert sample > 10


def test_a_call_that_synchronizes_is_counted_with_its_wait(gpu: FakeGpu) -> None:
    issue = gpu.call(5, 0.1, 5.0)

    def call() -> None:
        issue()
        gpu.synchronize()

    assert eager(call, 5).host_samples == pytest.approx([5.02] * 6, rel=1e-2)


@pytest.mark.parametrize(
    ("launches", "latency_ms", "calls"),
    [
        (5, 0.1, 50),
        (10, 0.1, 50),
        (27, 0.1, 18),
        (0, 0.1, 50),
        (500, 0.1, 1),
        (501, 0.1, 0),
        (1024, 30.0, 0),
        (5, 5.0, 20),
        (5, 70.0, 1),
        (5, 3000.0, 1),
    ],
)
def test_a_batch_is_bounded_by_calls_launches_and_time(
    launches: int, latency_ms: float, calls: int
) -> None:
    assert host.batch_calls(launches, latency_ms) == calls
    assert calls * launches <= host.MAX_LAUNCHES <= QUEUE // 2
    assert calls <= host.MAX_CALLS


def test_every_batch_starts_on_an_idle_gpu_and_has_as_many_calls_as_planned(gpu: FakeGpu) -> None:
    measurement = eager(gpu.call(10, 0.2, 0.1), 10)
    assert len(measurement.samples) == 15
    assert len(measurement.host_samples) == 6  # two sample blocks
    assert gpu.batches.count(50) == 6
    assert max(gpu.batches) == 50


def test_the_number_of_host_samples_is_bounded(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        timing, "_stop_reason", lambda samples, *_: "samples" if samples[94:] else None
    )
    measurement = eager(gpu.call(10, 0.2, 0.1), 10)
    assert len(measurement.samples) == 95
    assert len(measurement.host_samples) == host.MAX_SAMPLES


def test_a_repeated_sample_block_repeats_its_host_samples(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [Clocks(900.0, 90.0, "thermal slowdown")]
    monkeypatch.setattr(clocks, "read", lambda: slow.pop() if slow else Clocks(1980.0, 40.0, ""))
    assert len(eager(gpu.call(10, 0.2, 0.1), 10).host_samples) == 6


@pytest.mark.parametrize("launches", [None, 501])
def test_no_host_time_without_known_or_with_too_many_launches(
    launches: int | None, gpu: FakeGpu
) -> None:
    measurement = eager(gpu.call(5, 0.1, 0.1), launches)
    assert measurement.samples
    assert measurement.host_samples == ()


@pytest.mark.parametrize("mode", ["graph", "device"])
def test_other_modes_have_no_host_time(
    mode: Timing, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "durations_ms", lambda calls: [1.0] * len(calls))
    pretended = timing._Mode(lambda: 1.0, lambda size: [1.0] * size, lambda index: None)
    monkeypatch.setattr(timing, "_graph", lambda *_: (pretended, 1))
    sampler = timing.Sampler(mode, [gpu.call(5, 0.1, 0.1)], Budget(5), launches_observed=5)
    measurement = sampler.take_block()
    assert measurement is not None
    assert measurement.host_samples == ()


@pytest.mark.gpu
@pytest.mark.alone
def test_host_time_of_a_long_kernel_is_short() -> None:
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    measurement = eager(lambda: torch.mul(source, 2.0, out=target), 1, samples=10, seconds=2.0)
    assert max(measurement.host_samples) < 0.2 * min(measurement.samples)


def test_eager_time_is_that_of_the_whole_call_and_of_nothing_before_it(gpu: FakeGpu) -> None:
    """The GPU ends 8 ms after Python. Work before the call takes 100 ms, and is not included."""
    issue, earlier = gpu.call(1, host_ms=1.0, gpu_ms=8.0), gpu.call(1, 0.0, 100.0)
    issued: list[bool] = []

    def call() -> None:
        issue()
        if not issued:  # the call before the first sample leaves work behind
            earlier()
        issued.append(True)

    measurement = eager(call, None, samples=3, seconds=60.0)
    assert measurement.samples == pytest.approx([9.0] * 3)
