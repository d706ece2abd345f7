"""Latency of a call in milliseconds, in three modes that are never mixed.

eager: what a Python caller waits, launch cost included.
graph: replay of a CUDA graph that holds the call many times, divided by their number, so that the
    cost of a replay and its events (about 10 us) fades.
device: sum of the durations of the call's kernels, from CUPTI through torch.profiler.

Samples come in blocks, so that calls to be compared can take turns, A B A B, and drift of the GPU
hits all of them. Its clock and throttling are read after each block. A block that was slowed is
measured again. Sampling ends once the interval of the median is narrow; outliers stay.

Cold L2 is had by rotation: the calls given here work on operand sets that together exceed the
L2 twice over, so that a set has left the cache when its turn comes again. Warm L2 is one set.
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
from gspn2bench.measure import clocks, launches
from gspn2bench.measure.clocks import Clocks
from gspn2bench.measure.events import elapsed_ms
from gspn2bench.measure.intervals import median_interval
from gspn2bench.measure.launches import durations_ms
from gspn2bench.records.schema import Stopped, Timing

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
        nodes: launches of one call that a CUDA graph was found to hold; None in other modes.
    """

    samples: tuple[float, ...]
    stopped: Stopped
    clocks: Clocks
    slowed: bool
    nodes: int | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median, ms."""
        return median_interval(self.samples)


class Sampler:
    """Takes the samples of one call, a block at a time.

    Args:
        timing: "eager", "graph" or "device".
        calls: the same call on each operand set, warmed up (compiled and run once).
        budget: when to stop; the time is that of this call's own blocks.
        turns: numbers of the operand sets to use next. Samplers whose calls work on the same sets
            share one, so that a set that one has just used is not warm for the next.
        nodes: launches that one call makes, which a CUDA graph must hold; None where they are not
            known, and any number will do.
    """

    def __init__(
        self,
        timing: Timing,
        calls: Sequence[Call],
        budget: Budget,
        turns: Iterator[int] | None = None,
        nodes: int | None = None,
    ) -> None:
        self._timing = timing
        self._calls = calls
        self._budget = budget
        self._turns = count() if turns is None else turns
        self._nodes = nodes
        self._block: Block | None = None
        self._samples: list[float] = []
        self._readings: list[Clocks] = []
        self._retries = 0
        self._slowed = False
        self._seconds = 0.0

    def step(self) -> Measurement | None:
        """Take one block; returns the measurement when it was the last, None before.

        Raises:
            RuntimeError: the mode can't measure this call; the message says why.
        """
        if self._block is None:
            self._block = self._set_up()
        size = min(
            BLOCK if self._samples else FIRST_BLOCK, self._budget.samples - len(self._samples)
        )
        start = time.perf_counter()
        taken, reading = self._block(size), clocks.read()
        self._seconds += time.perf_counter() - start
        if reading.slowed and self._retries < MAX_RETRIES:
            self._retries += 1
            return None
        self._slowed = self._slowed or reading.slowed
        self._samples += taken
        self._readings.append(reading)
        stopped = _stop(self._samples, self._budget, self._seconds > self._budget.seconds)
        if stopped is None:
            return None
        return Measurement(
            tuple(self._samples),
            stopped,
            clocks.together(self._readings),
            self._slowed,
            self._nodes if self._timing == "graph" else None,
        )

    def _set_up(self) -> Block:
        if self._timing == "graph":
            block, self._nodes = _graph(self._calls, self._nodes)
            return block
        following = (self._calls[turn % len(self._calls)] for turn in self._turns)
        return (_eager if self._timing == "eager" else _device)(following)


def measure(timing: Timing, calls: Sequence[Call], budget: Budget) -> Measurement:
    """Samples of one call by itself; the arguments and errors are those of ``Sampler``."""
    sampler = Sampler(timing, calls, budget)
    while (taken := sampler.step()) is None:
        pass
    return taken


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


def _eager(following: Iterator[Call]) -> Block:
    def sample() -> float:
        call = next(following)
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    def block(size: int) -> list[float]:
        next(following)()  # what another call has left behind is not in a sample
        return [sample() for _ in range(size)]

    return block


def _graph(calls: Sequence[Call], nodes: int | None) -> tuple[Block, int]:
    """Replays of a graph of the calls, and the launches of each that it holds."""
    repeat = len(calls)
    while True:
        graph = _capture(calls, repeat)
        held = launches.in_graph(graph)
        if held < repeat or nodes not in (None, held / repeat):
            declared = "" if nodes is None else f" that make {nodes} each"
            raise RuntimeError(
                f"graph: holds {held} launches of {repeat} calls{declared}; work on "
                "a stream that does not fork from the current one is not captured"
            )
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
    return lambda size: [elapsed_ms(graph.replay) / repeat for _ in range(size)], held // repeat


def _capture(calls: Sequence[Call], repeat: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for turn in range(repeat):
            calls[turn % len(calls)]()
    graph.instantiate()
    return graph


def _device(following: Iterator[Call]) -> Block:
    def block(size: int) -> list[float]:
        next(following)()  # what another call has left behind is not in a sample
        durations = durations_ms([next(following) for _ in range(size)])
        each, rest = divmod(len(durations), size)
        if rest or not each:
            raise RuntimeError(f"device: {len(durations)} launches seen in {size} equal calls")
        return [sum(durations[i * each : (i + 1) * each]) for i in range(size)]

    return block
