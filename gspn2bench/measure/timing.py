"""Latency of a call in milliseconds, in three modes that are never mixed.

eager: what a Python caller waits, launch cost included.
graph: replay of a CUDA graph that holds the call many times, divided by their number, so that the
    cost of a replay and its events (about 10 us) fades.
device: sum of the durations of the call's kernels, from CUPTI through torch.profiler.

Samples come in blocks, and the GPU's clock and throttling are read after each. A block that was
slowed is measured again. Sampling ends once the interval of the median is narrow; outliers stay.

Cold L2 is had by rotation: the calls given here work on operand sets that together exceed the
L2 twice over, so that a set has left the cache when its turn comes again. Warm L2 is one set.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Final

import torch

from gspn2bench.kernels.contract import Call
from gspn2bench.measure import clocks
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.events import elapsed_ms
from gspn2bench.measure.launches import durations_ms
from gspn2bench.measure.statistics import median_interval
from gspn2bench.schema import Stopped, Timing

MIN_REPLAY_MS: Final = 5.0
"""A graph replay lasts at least this long: its own cost of about 10 us is then 0.2 %."""
MAX_NODES: Final = 20_000
"""Calls that one graph holds at the most; a replay of fewer than MIN_REPLAY_MS is an error."""
FIRST_BLOCK: Final = 5
BLOCK: Final = 10
MAX_RETRIES: Final = 3
"""Blocks that are measured again because the GPU was slowed, before it is taken as it is."""
MAX_SETS: Final = 2048
"""Operand sets that a rotation may take: a case of 60 kB and up can be made cold on an H200."""

Block = Callable[[int], list[float]]
"""That many more samples, in milliseconds."""


@dataclass(frozen=True)
class Budget:
    """When to stop.

    Args:
        samples: at the most.
        seconds: after which no further block begins.
        precision: width of the median's 95 % interval, relative to the median, that is enough.
    """

    samples: int = 100
    seconds: float = 3.0
    precision: float = 0.01


@dataclass(frozen=True)
class Measurement:
    """Samples of one call and what is known of them.

    Args:
        samples: milliseconds, in the order taken, outliers too.
        stopped: why there are no more.
        clocks: median clock, highest temperature, every throttle reason that was seen.
        slowed: whether the GPU stayed slowed, however often a block was measured again.
    """

    samples: tuple[float, ...]
    stopped: Stopped
    clocks: Clocks
    slowed: bool

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median, ms."""
        return median_interval(self.samples)


def measure(timing: Timing, calls: Sequence[Call], budget: Budget) -> Measurement:
    """Samples of one call.

    Args:
        timing: "eager", "graph" or "device".
        calls: the same call on each operand set, warmed up (compiled and run once).
        budget: when to stop.

    Raises:
        RuntimeError: the mode can't measure this call; the message says why.
    """
    block = {"eager": _eager, "graph": _graph, "device": _device}[timing](calls)
    samples: list[float] = []
    readings: list[Clocks] = []
    retries, slowed = 0, False
    end = time.perf_counter() + budget.seconds
    stopped: Stopped | None = None
    while stopped is None:
        size = min(BLOCK if samples else FIRST_BLOCK, budget.samples - len(samples))
        taken, reading = block(size), clocks.read()
        if reading.slowed and retries < MAX_RETRIES:
            retries += 1
            continue
        slowed = slowed or reading.slowed
        samples += taken
        readings.append(reading)
        stopped = _stop(samples, budget, time.perf_counter() > end)
    return Measurement(tuple(samples), stopped, clocks.together(readings), slowed)


def _stop(samples: Sequence[float], budget: Budget, late: bool) -> Stopped | None:
    """Why to stop, or None to go on."""
    if len(samples) > FIRST_BLOCK:
        low, high = median_interval(samples)
        if high - low <= budget.precision * median(samples):
            return "interval"
    if len(samples) >= budget.samples:
        return "samples"
    return "time" if late else None


def rotation(footprint: int, l2_bytes: int) -> int:
    """Operand sets needed so that 2 * L2 pass through the cache before a set is used again.

    Args:
        footprint: bytes of one set.
        l2_bytes: size of the L2 cache.
    """
    return 1 if footprint >= 2 * l2_bytes else 1 + math.ceil(2 * l2_bytes / footprint)


def _eager(calls: Sequence[Call]) -> Block:
    turns = count()

    def sample() -> float:
        call = calls[next(turns) % len(calls)]
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    return lambda size: [sample() for _ in range(size)]


def _graph(calls: Sequence[Call]) -> Block:
    repeat = len(calls)
    while True:
        graph = _capture(calls, repeat)
        graph.replay()  # uploads the graph
        replay_ms = min(elapsed_ms(graph.replay) for _ in range(3))
        if replay_ms >= MIN_REPLAY_MS:
            break
        if repeat >= MAX_NODES:
            raise RuntimeError(f"graph: {repeat} calls last only {replay_ms:.3f} ms")
        # A quarter more than the estimate, in whole turns of the rotation.
        wanted = 1.25 * repeat * MIN_REPLAY_MS / replay_ms
        turns = max(math.ceil(wanted / len(calls)), 1 + repeat // len(calls))
        repeat = min(turns * len(calls), -(-MAX_NODES // len(calls)) * len(calls))
    return lambda size: [elapsed_ms(graph.replay) / repeat for _ in range(size)]


def _capture(calls: Sequence[Call], repeat: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(repeat):
            calls[turn % len(calls)]()
    return graph


def _device(calls: Sequence[Call]) -> Block:
    turns = count()

    def block(size: int) -> list[float]:
        durations = durations_ms([calls[next(turns) % len(calls)] for _ in range(size)])
        each, rest = divmod(len(durations), size)
        if rest or not each:
            raise RuntimeError(f"device: {len(durations)} launches seen in {size} equal calls")
        return [sum(durations[i * each : (i + 1) * each]) for i in range(size)]

    return block
