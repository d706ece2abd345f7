"""Interleaved measurement on a fake GPU: the order A B A B, and failures of one rung."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gspn2bench.kernels.contract import Call, Operands, Rung, one_launch
from gspn2bench.label import Label
from gspn2bench.measure import launches, timing
from gspn2bench.measure.timing import Budget
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Row, Timing
from gspn2bench.run import interleave, preflight
from gspn2bench.run.interleave import RungStarted
from gspn2bench.run.trial import HEADROOM_BYTES, Settings

from ..helpers.pretended_gpu import BOUNDS, CASE, COPY_MS, FOOTPRINT, RUNG, bind, pretended_gpu

pytestmark = pytest.mark.usefixtures(pretended_gpu.__name__)

SETTINGS = Settings("pretended", timings=("device",), l2="warm", budget=Budget(65, 60.0))


class Timed:
    """A call of a known duration."""

    def __init__(self, problem: ScanProblem, operands: Operands, length_ms: float) -> None:
        self.run = bind(problem, operands)
        self.operands = operands
        self.length_ms = length_ms

    def __call__(self) -> None:
        self.run()


def rung(name: str, length_ms: float = COPY_MS, **changes: object) -> Rung:
    def forward(problem: ScanProblem, operands: Operands) -> Call:
        return Timed(problem, operands, length_ms)

    fields = {"id": name, "forward": forward, "launches": one_launch} | changes
    return replace(RUNG, **fields)  # type: ignore[arg-type]


def measure(*rungs: Rung, settings: Settings = SETTINGS) -> list[RungStarted | Row]:
    return list(interleave.measure_interleaved(CASE, [(rung, settings) for rung in rungs], BOUNDS))


def rows(events: Iterable[RungStarted | Row]) -> dict[tuple[str, str], Row]:
    return {(row.rung, row.timing): row for row in events if isinstance(row, Row)}


def started(events: Iterable[RungStarted | Row]) -> str:
    """The ids of the rungs in the order in which they ran."""
    return "".join(event.rung for event in events if isinstance(event, RungStarted))


@pytest.fixture
def drift(pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which every sample block takes 5 % longer than the one before."""
    blocks: list[float] = []

    def durations(calls: Sequence[Timed]) -> list[float]:
        blocks.append(1.05 ** len(blocks))
        return [call.length_ms * blocks[-1] for call in calls]

    monkeypatch.setattr(timing, "durations_ms", durations)


@pytest.mark.usefixtures("drift")
def test_drift_affects_all_rungs_alike() -> None:
    by_key = rows(measure(rung("a", 1.0), rung("b", 2.0), rung("c", 3.0)))
    a, b, c = (by_key[name, "device"] for name in "abc")
    assert len(a.samples_ms) == len(b.samples_ms) == len(c.samples_ms) == 65
    assert max(a.samples_ms) > 2 * min(a.samples_ms)  # the drift of all 21 blocks
    # neighbours are one sample block apart; A A B B would put them 7 blocks, or 41 %, apart
    assert (b.latency_ms or 0) / (a.latency_ms or 1) == pytest.approx(2, rel=0.06)
    assert (c.latency_ms or 0) / (a.latency_ms or 1) == pytest.approx(3, rel=0.11)


def test_sample_blocks_alternate_until_each_rung_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uneven = np.random.default_rng(0)

    def durations(calls: Sequence[Timed]) -> list[float]:
        return [1.0 if call.length_ms == 1 else float(uneven.uniform(1, 3)) for call in calls]

    monkeypatch.setattr(timing, "durations_ms", durations)
    events = measure(rung("a", 1.0), rung("b", 2.0))
    names = [
        event.rung if isinstance(event, RungStarted) else event.rung.upper() for event in events
    ]
    # preflight of both, then operand sets, then sample blocks; a stops after 15 samples
    assert "".join(names) == "ab" + "a" + "ab" + "aAb" + "b" * 5 + "B"


def test_rungs_with_equal_problems_share_operands_and_others_do_not() -> None:
    bound: dict[str, list[Operands]] = {"a": [], "b": [], "right": []}

    def recording(name: str) -> Rung:
        def forward(problem: ScanProblem, operands: Operands) -> Call:
            bound[name].append(operands)
            return bind(problem, operands)

        return rung(name, forward=forward)

    right = replace(recording("right"), native="right")
    by_key = rows(
        measure(recording("a"), recording("b"), right, settings=replace(SETTINGS, l2="cold"))
    )
    assert {row.status for row in by_key.values()} == {"ok"}
    # the first operands of each rung are those of its preflight
    sets = {
        name: [operands.x.data_ptr() for operands in operand_sets[1:]]
        for name, operand_sets in bound.items()
    }
    assert sets["a"] == sets["b"]
    assert len(set(sets["a"])) == 6
    assert not set(sets["a"]) & set(sets["right"])


@pytest.mark.parametrize("mode", ["eager", "device"])
def test_rungs_that_share_operand_sets_use_them_in_turn(
    mode: Timing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that was used a moment ago, by whichever rung, is still in the L2 cache.

    Every set is used again only after all others have been used.
    """
    order: list[tuple[str, int]] = []
    measuring: list[bool] = []

    def recording(name: str) -> Rung:
        def forward(problem: ScanProblem, operands: Operands) -> Call:
            run = bind(problem, operands)

            def call() -> None:
                run()
                if measuring:
                    order.append((name, operands.x.data_ptr()))

            return call

        return rung(name, forward=forward)

    def durations(calls: Sequence[Call]) -> list[float]:
        for call in calls:
            call()
        return [1.0 + 0.1 * (i % 2) for i in range(len(calls))]

    bind_sets = interleave._bind_operand_sets

    def bind_and_start(trials: Any) -> Any:
        bound = bind_sets(trials)
        measuring.append(True)
        return bound

    monkeypatch.setattr(interleave, "_bind_operand_sets", bind_and_start)
    monkeypatch.setattr(timing, "durations_ms", durations)
    monkeypatch.setattr(timing.host, "samples_ms", lambda *_: [])
    monkeypatch.setattr(timing.host, "batch_calls", lambda *_: 0)
    settings = replace(SETTINGS, l2="cold", timings=(mode,), budget=Budget(25, 60.0, 0.0))
    by_key = rows(measure(recording("a"), recording("b"), settings=settings))
    assert {row.status for row in by_key.values()} == {"ok"}
    sets = [address for _, address in order]
    assert len(set(sets)) == 6
    assert {name for name, _ in order} == {"a", "b"}
    assert len(order) >= 2 * 25
    assert sets == [sets[i % 6] for i in range(len(sets))]


def test_a_rung_that_ruins_its_operands_does_not_affect_the_next_preflight() -> None:
    def forward(problem: ScanProblem, operands: Operands) -> Call:
        correct = bind(problem, operands)

        def call() -> None:
            correct()
            operands.x.fill_(torch.nan)

        return call

    by_key = rows(measure(rung("a", forward=forward), rung("b")))
    assert by_key["a", "device"].status == "incorrect"
    assert by_key["b", "device"].status == "ok"


def test_if_the_operand_sets_do_not_fit_rungs_are_measured_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = replace(rung("b"), native="right")
    together = HEADROOM_BYTES + 2 * FOOTPRINT
    orders = {}
    for free in (together, together - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device, free=free: (free, 2**40))
        events = measure(rung("a"), right)
        assert {row.status for row in rows(events).values()} == {"ok"}
        orders[free] = started(events)
    assert orders[together] == "ab" + "a" + "ab" + "ab"
    assert orders[together - 1] == "ab" + "aaa" + "bbb"


def test_all_operand_sets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replace(rung("b"), native="right")
    settings = replace(SETTINGS, l2="cold")
    together = HEADROOM_BYTES + 2 * 6 * FOOTPRINT
    orders = {}
    for free in (together, together - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device, free=free: (free, 2**40))
        orders[free] = started(measure(rung("a"), right, settings=settings))
    assert orders[together] == "ab" + "a" + "ab" + "ab"
    assert orders[together - 1] == "ab" + "aaa" + "bbb"


def test_scratch_memory_of_calls_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * FOOTPRINT)
    free = HEADROOM_BYTES + FOOTPRINT + 2 * 2 * FOOTPRINT - 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device: (free, 2**40))
    assert started(measure(rung("a"), rung("b"))) == "ab" + "aaa" + "bbb"


def test_if_binding_all_rungs_runs_out_of_memory_they_are_measured_one_by_one() -> None:
    bound: list[Operands] = []

    def greedy(problem: ScanProblem, operands: Operands) -> Call:
        if bound and bound[-1].x is operands.x:
            raise torch.OutOfMemoryError("no memory for scratch")
        bound.append(operands)
        return bind(problem, operands)

    by_key = rows(measure(rung("a", forward=greedy), rung("b", forward=greedy)))
    assert [by_key[name, "device"].status for name in "ab"] == ["ok", "ok"]


def test_an_error_in_a_sample_block_fails_only_that_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    def durations(calls: Sequence[Timed]) -> list[float]:
        if calls[0].length_ms == 2.0:
            raise RuntimeError("planted")
        return [1.0] * len(calls)

    monkeypatch.setattr(timing, "durations_ms", durations)
    by_key = rows(measure(rung("a", 1.0), rung("b", 2.0), rung("c", 1.0)))
    assert [by_key[name, "device"].status for name in "abc"] == ["ok", "failed", "ok"]
    assert by_key["b", "device"].reason == "RuntimeError: planted"


@pytest.mark.parametrize("when", ["preflight", "block"])
def test_a_broken_context_ends_the_job_and_gives_other_rungs_no_row(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any call fails in a broken context, so a new worker must measure the other rungs."""
    broken: list[str] = []

    def durations(calls: Sequence[Timed]) -> list[float]:
        if broken or calls[0].length_ms == 2.0:
            broken.append("illegal memory access")
            raise RuntimeError(broken[0])
        return [1.0] * len(calls)

    monkeypatch.setattr(timing, "durations_ms", durations)
    if when == "preflight":
        monkeypatch.setattr(launches, "durations_ms", durations)
    monkeypatch.setattr(interleave, "gpu_is_healthy", lambda: not broken)
    settings = replace(SETTINGS, timings=("device", "graph"))
    by_key = rows(measure(rung("a", 1.0), rung("b", 2.0), rung("c", 1.0), settings=settings))
    assert {name for name, _ in by_key} == {"b"}
    assert {timing for _, timing in by_key} == {"device", "graph"}
    assert {row.reason for row in by_key.values()} == {"RuntimeError: illegal memory access"}


def test_every_sample_block_has_its_own_range(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    entered: list[tuple[str, ...]] = []

    @contextmanager
    def annotate(*words: str):
        entered.append(words)
        yield

    monkeypatch.setattr(interleave, "annotate", annotate)
    monkeypatch.setattr(preflight, "annotate", annotate)
    measure(rung("a"), rung("b"))
    label = CASE.label
    measured = [words for words in entered if words[0] == "measure"]
    assert measured == [("measure", str(Label(label, n, "forward", "device"))) for n in "abab"]
    assert [words[0] for words in entered[:3]] == ["case", "warmup", "gate"]
    # the preflight, two sample blocks and the check after them
    assert entered.count(("case", label, "a")) == 4
