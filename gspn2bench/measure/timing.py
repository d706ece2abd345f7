"""Latency of a call in milliseconds, in three modes that are never mixed.

eager: the time a Python caller waits, launch cost included.
graph: the time of one CUDA graph replay over the number of calls that the graph holds. The cost of
    the replay itself and its events, about 10 us, is spread over many calls.
device: the sum of the durations of the call's kernels, from CUPTI through torch.profiler.

Eager time comes with host time (``measure.host``), the part of it that Python spends issuing the
call.

Samples are taken in sample blocks. The caller interleaves the blocks of several calls, A B A B, and
a drift of the GPU then affects all of them alike. Each sample block begins with a warm-up
(``warm_up``). Clock and throttling are read after each sample block. A sample block during
throttling is measured again. Sampling stops once the interval of the median is narrow. Outliers are
kept.

The L2 cache is kept cold by rotating through operand sets that total twice its size: a set has been
evicted before it is used again. Persisting lines are reset before each cold sample in eager and
graph mode, and before each cold sample block in device mode. A warm L2 uses a single operand set.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Final

import torch

from gspn2bench.kernels.contract import Call
from gspn2bench.measure import clocks, host, l2_cache, launches, warm_up
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.events import elapsed_ms
from gspn2bench.measure.intervals import median_interval
from gspn2bench.measure.launches import durations_ms
from gspn2bench.problem import ceil_div
from gspn2bench.records.schema import Stopped, Timing

MIN_REPLAY_MS: Final = 5.0
"""Shortest graph replay to time; the replay cost of about 10 us is then at most 0.2 %."""
MAX_NODES: Final = 20_000
"""Most calls in one graph. If they take less than ``MIN_REPLAY_MS``, the call is too short."""
FIRST_BLOCK: Final = 5
"""Samples in the first sample block."""
BLOCK: Final = 10
"""Samples in each later sample block."""
MAX_RETRIES: Final = 3
"""Throttled sample blocks that are measured again; later ones are kept."""
MAX_SETS: Final = 2048
"""Most operand sets in a rotation. On an H200, cases of 60 kB and more can be made cold."""


@dataclass(frozen=True)
class _Mode:
    """One latency mode of one call.

    Args:
        sample: takes one sample for the warm-up, ms.
        take_samples: takes that many samples, ms.
        rerun: runs the call again on the operand set with this index, untimed and in the same way
            as a sample; a graph runs all sets.
    """

    sample: Callable[[], float]
    take_samples: Callable[[int], list[float]]
    rerun: Callable[[int], object]


@dataclass(frozen=True)
class Budget:
    """When sampling stops.

    Args:
        samples: most samples to take.
        seconds: no sample block starts after this time, warm-ups not included.
        precision: sampling stops when the 95 % interval of the median, relative to the median, is
            at most this wide.
    """

    samples: int = 100
    seconds: float = 3.0
    precision: float = 0.01


@dataclass(frozen=True)
class Measurement:
    """Samples of one call, and the conditions under which they were taken.

    Args:
        samples: ms, in the order taken, outliers included.
        stopped: why sampling stopped.
        clocks: median clock, highest temperature, every throttle reason observed.
        slowed: whether the GPU was still throttled after ``MAX_RETRIES`` repeated sample blocks.
        nodes: launches per call in the CUDA graph; None in other modes.
        host_samples: host time of one call, ms, in the order taken; empty if it is not measured.
        blocks: number of samples of each sample block.
        block_clocks_mhz: clock after each sample block, MHz; None where it is unknown.
    """

    samples: tuple[float, ...]
    stopped: Stopped
    clocks: Clocks
    slowed: bool
    nodes: int | None = None
    host_samples: tuple[float, ...] = ()
    blocks: tuple[int, ...] = ()
    block_clocks_mhz: tuple[float | None, ...] = ()

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median, ms."""
        return median_interval(self.samples)


class Sampler:
    """Takes the samples of one call, one sample block at a time.

    Args:
        timing: "eager", "graph" or "device".
        calls: the same call on each operand set, warmed up (compiled and run once).
        budget: when to stop. Only the sample blocks of this sampler count towards its seconds.
        set_indices: indices of the operand sets to use next, taken modulo their number. Samplers on
            the same operand sets share one iterator, or one sampler would warm the L2 for the next.
        nodes: launches per call that a CUDA graph must hold; None accepts any number above 0.
        launches_observed: launches per call. None if they are unknown, as under a profiler; no
            host time is then measured.
        cold: whether the L2 must be cold; persisting lines are then reset.
    """

    def __init__(
        self,
        timing: Timing,
        calls: Sequence[Call],
        budget: Budget,
        set_indices: Iterator[int] | None = None,
        nodes: int | None = None,
        launches_observed: int | None = None,
        cold: bool = False,
    ) -> None:
        self._timing = timing
        self._calls = calls
        self._budget = budget
        self._set_indices = count() if set_indices is None else set_indices
        self._nodes = nodes
        self._launches_observed = launches_observed
        self._reset_l2 = l2_cache.reset_persisting_lines if cold else _nothing
        self._mode: _Mode | None = None
        self._host_samples: list[float] = []
        self._samples: list[float] = []
        self._blocks: list[int] = []
        self._readings: list[Clocks] = []
        self._retries = 0
        self._slowed = False
        self._seconds = 0.0

    def take_block(self) -> Measurement | None:
        """Warm up and take one sample block.

        Returns:
            The measurement after the last sample block; None before.

        Raises:
            RuntimeError: this mode cannot measure the call; the message gives the reason.
        """
        if self._mode is None:
            self._mode = self._set_up()
        warm_up.warm_up(self._mode.sample, warm_up.limits(first=not self._samples))
        size = min(
            BLOCK if self._samples else FIRST_BLOCK, self._budget.samples - len(self._samples)
        )
        start = time.perf_counter()
        samples, reading = self._mode.take_samples(size), clocks.read()
        self._seconds += time.perf_counter() - start
        host_samples = self._take_host_samples(samples)
        if reading.slowed and self._retries < MAX_RETRIES:
            self._retries += 1
            return None
        self._slowed = self._slowed or reading.slowed
        self._samples += samples
        self._blocks.append(len(samples))
        self._host_samples += host_samples
        self._readings.append(reading)
        out_of_time = self._seconds > self._budget.seconds
        stopped = _stop_reason(self._samples, self._budget, out_of_time)
        if stopped is None:
            return None
        return Measurement(
            tuple(self._samples),
            stopped,
            clocks.combine(self._readings),
            self._slowed,
            self._nodes if self._timing == "graph" else None,
            tuple(self._host_samples),
            tuple(self._blocks),
            tuple(reading.clock_mhz for reading in self._readings),
        )

    def next_set(self) -> int:
        """Take the index of the next operand set in the rotation."""
        return next(self._set_indices) % len(self._calls)

    def rerun(self, index: int) -> None:
        """Run the call once more as it was measured, untimed; only after a sample block.

        Args:
            index: of the operand set. A graph runs the others too.
        """
        assert self._mode is not None
        self._mode.rerun(index)
        torch.cuda.synchronize()

    def _take_host_samples(self, samples: Sequence[float]) -> list[float]:
        """Host samples that go with a sample block of eager time; their time is not budgeted."""
        if self._timing != "eager" or self._launches_observed is None:
            return []
        calls = host.batch_calls(self._launches_observed, median(samples))
        wanted = min(host.BLOCK, host.MAX_SAMPLES - len(self._host_samples))
        if not calls or wanted <= 0:
            return []
        call = self._calls[self.next_set()]
        return host.samples_ms(call, calls, wanted)

    def _set_up(self) -> _Mode:
        if self._timing == "graph":
            mode, self._nodes = _graph(self._calls, self._nodes, self._reset_l2)
            return mode
        rotation = (self._calls[index % len(self._calls)] for index in self._set_indices)
        sample = _eager(rotation, self._reset_l2)
        take_samples = _repeat(sample)
        if self._timing == "device":
            take_samples = _device(rotation, self._reset_l2)
        return _Mode(sample, take_samples, lambda index: self._calls[index]())


def measure(timing: Timing, calls: Sequence[Call], budget: Budget) -> Measurement:
    """Measure one call without interleaving; arguments and errors as for ``Sampler``."""
    sampler = Sampler(timing, calls, budget)
    while (measurement := sampler.take_block()) is None:
        pass
    return measurement


def _stop_reason(samples: Sequence[float], budget: Budget, out_of_time: bool) -> Stopped | None:
    """Why sampling stops now; None to continue."""
    if len(samples) > FIRST_BLOCK:
        low, high = median_interval(samples)
        if high - low <= budget.precision * median(samples):
            return "interval"
    if len(samples) >= budget.samples:
        return "samples"
    return "time" if out_of_time else None


def _nothing() -> None:
    """Stands in for the reset of the L2 where the cache is warm."""


def _repeat(sample: Callable[[], float]) -> Callable[[int], list[float]]:
    return lambda size: [sample() for _ in range(size)]


def _eager(rotation: Iterator[Call], reset_l2: Call) -> Callable[[], float]:
    def sample() -> float:
        call = next(rotation)
        reset_l2()
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    return sample


def _graph(calls: Sequence[Call], nodes: int | None, reset_l2: Call) -> tuple[_Mode, int]:
    """Capture the calls in a graph long enough to time.

    Args:
        calls: the same call on each operand set.
        nodes: launches per call that the graph must hold; None accepts any number above 0.
        reset_l2: called before each sample.

    Returns:
        The mode, which replays the graph, and the launches per call that the graph holds.
    """
    repeat = len(calls)
    while True:
        graph = _capture(calls, repeat)
        captured = launches.count_graph_nodes(graph)
        if captured < repeat or nodes not in (None, captured / repeat):
            declared = "" if nodes is None else f" of {nodes} launches each"
            raise RuntimeError(
                f"graph: holds {captured} launches for {repeat} calls{declared}; work on "
                "a stream that does not fork from the current one is not captured"
            )
        graph.replay()  # uploads the graph
        replay_ms = min(elapsed_ms(graph.replay) for _ in range(3))
        if replay_ms >= MIN_REPLAY_MS:
            break
        if repeat >= MAX_NODES:
            raise RuntimeError(
                f"graph: {repeat} calls take only {replay_ms:.3f} ms, too short to time"
            )
        # A quarter more calls than estimated, rounded up to whole rotations.
        needed = 1.25 * repeat * MIN_REPLAY_MS / replay_ms
        rotations = max(math.ceil(needed / len(calls)), 1 + repeat // len(calls))
        repeat = min(rotations * len(calls), ceil_div(MAX_NODES, len(calls)) * len(calls))

    def sample() -> float:
        reset_l2()
        return elapsed_ms(graph.replay) / repeat

    mode = _Mode(sample, _repeat(sample), lambda _index: graph.replay())
    return mode, captured // repeat


def _capture(calls: Sequence[Call], repeat: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for index in range(repeat):
            calls[index % len(calls)]()
    graph.instantiate()
    return graph


def _device(rotation: Iterator[Call], reset_l2: Call) -> Callable[[int], list[float]]:
    def take_samples(size: int) -> list[float]:
        reset_l2()
        durations = durations_ms([next(rotation) for _ in range(size)])
        per_call, rest = divmod(len(durations), size)
        if rest or not per_call:
            raise RuntimeError(
                f"device: {len(durations)} launches observed in {size} identical calls"
            )
        return [sum(durations[i * per_call : (i + 1) * per_call]) for i in range(size)]

    return take_samples
