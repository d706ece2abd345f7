"""Latency of a call in milliseconds, in three modes that are never mixed.

eager: what a Python caller waits, launch cost included.
graph: replay of a CUDA graph that holds the call many times, divided by their number, so that the
    cost of a replay and its events (about 10 us) fades.
device: sum of the durations of the call's kernels, from CUPTI through torch.profiler.

Cold L2 is had by rotation: the calls given here work on operand sets that together exceed the
L2 twice over, so that a set has left the cache when its turn comes again. Warm L2 is one set.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from gspn2bench.kernels.contract import Call
from gspn2bench.measure.events import elapsed_ms
from gspn2bench.measure.launches import durations_ms
from gspn2bench.schema import Timing

MIN_REPLAY_MS: Final = 5.0
"""A graph replay lasts at least this long: its own cost of about 10 us is then 0.2 %."""
MAX_NODES: Final = 20_000
"""Calls that one graph holds at the most; a replay of fewer than MIN_REPLAY_MS is an error."""
MIN_SAMPLES: Final = 5
MAX_SETS: Final = 2048
"""Operand sets that a rotation may take: a case of 60 kB and up can be made cold on an H200."""


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``samples`` samples, or ``seconds`` once there are at least five."""

    samples: int = 30
    seconds: float = 3.0


def measure(timing: Timing, calls: Sequence[Call], budget: Budget) -> tuple[float, ...]:
    """Samples of one call, in milliseconds.

    Args:
        timing: "eager", "graph" or "device".
        calls: the same call on each operand set, warmed up (compiled and run once).
        budget: when to stop.

    Raises:
        RuntimeError: the mode can't measure this call; the message says why.
    """
    sampler = {"eager": _eager, "graph": _graph, "device": _device}[timing]
    return sampler(calls, budget)


def rotation(footprint: int, l2_bytes: int) -> int:
    """Operand sets needed so that 2 * L2 pass through the cache before a set is used again.

    Args:
        footprint: bytes of one set.
        l2_bytes: size of the L2 cache.
    """
    return 1 if footprint >= 2 * l2_bytes else 1 + math.ceil(2 * l2_bytes / footprint)


def _collect(sample: Callable[[int], float], budget: Budget) -> tuple[float, ...]:
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples:
        samples.append(sample(len(samples)))
        if len(samples) >= MIN_SAMPLES and time.perf_counter() > end:
            break
    return tuple(samples)


def _eager(calls: Sequence[Call], budget: Budget) -> tuple[float, ...]:
    def sample(turn: int) -> float:
        call = calls[turn % len(calls)]
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    return _collect(sample, budget)


def _graph(calls: Sequence[Call], budget: Budget) -> tuple[float, ...]:
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
    return _collect(lambda _: elapsed_ms(graph.replay) / repeat, budget)


def _capture(calls: Sequence[Call], repeat: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for turn in range(repeat):
            calls[turn % len(calls)]()
    return graph


def _device(calls: Sequence[Call], budget: Budget) -> tuple[float, ...]:
    # One call to learn the cost: on the last set, since the first is the next to be measured.
    began = time.perf_counter()
    durations_ms([calls[-1]])
    cost = time.perf_counter() - began
    count = max(MIN_SAMPLES, min(budget.samples, int(budget.seconds / cost)))
    turns = [calls[turn % len(calls)] for turn in range(count)]
    durations = durations_ms(turns)
    each, rest = divmod(len(durations), count)
    if rest or not each:
        raise RuntimeError(f"device: {len(durations)} launches seen in {count} equal calls")
    return tuple(sum(durations[i * each : (i + 1) * each]) for i in range(count))
