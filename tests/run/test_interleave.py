"""The rungs of a case in turn, on a pretended GPU: A B A B, and what one of them spoils."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from gspn2bench.kernels.contract import Call, Operands, Rung, one_launch
from gspn2bench.label import Label
from gspn2bench.measure import launches, timing
from gspn2bench.measure.timing import Budget
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Row
from gspn2bench.run import interleave, preflight
from gspn2bench.run.interleave import RungStarted
from gspn2bench.run.trial import HEADROOM_BYTES, Settings

from ..helpers.pretended_gpu import BOUNDS, CASE, COPY_MS, FOOTPRINT, RUNG, bind, pretended_gpu

pytestmark = pytest.mark.usefixtures(pretended_gpu.__name__)

SETTINGS = Settings("pretended", timings=("device",), l2="warm", budget=Budget(65, 60.0))


class Timed:
    """A call of a known length."""

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


def events(*rungs: Rung, settings: Settings = SETTINGS) -> list[RungStarted | Row]:
    return list(interleave.measure_interleaved(CASE, [(each, settings) for each in rungs], BOUNDS))


def rows(given: Iterable[RungStarted | Row]) -> dict[tuple[str, str], Row]:
    return {(row.rung, row.timing): row for row in given if isinstance(row, Row)}


@pytest.fixture
def drift(pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that takes 5 % longer from block to block."""
    blocks: list[float] = []

    def durations(calls: Sequence[Timed]) -> list[float]:
        blocks.append(1.05 ** len(blocks))
        return [call.length_ms * blocks[-1] for call in calls]

    monkeypatch.setattr(timing, "durations_ms", durations)


@pytest.mark.usefixtures("drift")
def test_drift_hits_all_rungs_alike() -> None:
    found = rows(events(rung("a", 1.0), rung("b", 2.0), rung("c", 3.0)))
    a, b, c = (found[name, "device"] for name in "abc")
    assert len(a.samples_ms) == len(b.samples_ms) == len(c.samples_ms) == 65
    assert max(a.samples_ms) > 2 * min(a.samples_ms)  # the drift of all 21 blocks
    # one block apart, as neighbours in turn; 7 blocks apart, 41 %, if one came after the other
    assert (b.latency_ms or 0) / (a.latency_ms or 1) == pytest.approx(2, rel=0.06)
    assert (c.latency_ms or 0) / (a.latency_ms or 1) == pytest.approx(3, rel=0.11)


def test_blocks_go_round_and_a_rung_that_is_done_drops_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uneven = np.random.default_rng(0)

    def durations(calls: Sequence[Timed]) -> list[float]:
        return [1.0 if call.length_ms == 1 else float(uneven.uniform(1, 3)) for call in calls]

    monkeypatch.setattr(timing, "durations_ms", durations)
    given = events(rung("a", 1.0), rung("b", 2.0))
    names = [each.rung if isinstance(each, RungStarted) else each.rung.upper() for each in given]
    # both are proven, the sets are made, and a knows its median after 15 samples
    assert "".join(names) == "ab" + "a" + "ab" + "aAb" + "b" * 5 + "B"


def test_rungs_that_scan_the_same_way_share_their_operands_and_others_do_not() -> None:
    bound: dict[str, list[Operands]] = {"a": [], "b": [], "right": []}

    def told(name: str) -> Rung:
        def forward(problem: ScanProblem, operands: Operands) -> Call:
            bound[name].append(operands)
            return bind(problem, operands)

        return rung(name, forward=forward)

    right = replace(told("right"), native="right")
    found = rows(events(told("a"), told("b"), right, settings=replace(SETTINGS, l2="cold")))
    assert {row.status for row in found.values()} == {"ok"}
    sets = {name: [each.x.data_ptr() for each in given[1:]] for name, given in bound.items()}
    assert sets["a"] == sets["b"]
    assert len(set(sets["a"])) == 6
    assert not set(sets["a"]) & set(sets["right"])


def test_what_a_rung_leaves_in_its_operands_is_not_in_the_next_ones_proof() -> None:
    def forward(problem: ScanProblem, operands: Operands) -> Call:
        right = bind(problem, operands)

        def call() -> None:
            right()
            operands.x.fill_(torch.nan)

        return call

    found = rows(events(rung("a", forward=forward), rung("b")))
    assert found["a", "device"].status == "incorrect"
    assert found["b", "device"].status == "ok"


def test_where_not_all_sets_fit_one_rung_comes_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = replace(rung("b"), native="right")
    together = HEADROOM_BYTES + 2 * FOOTPRINT
    orders = {}
    for free in (together, together - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device, free=free: (free, 2**40))
        given = events(rung("a"), right)
        assert {row.status for row in rows(given).values()} == {"ok"}
        orders[free] = "".join(each.rung for each in given if isinstance(each, RungStarted))
    assert orders[together] == "ab" + "a" + "ab" + "ab"
    assert orders[together - 1] == "ab" + "aaa" + "bbb"


def test_scratch_that_calls_hold_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * FOOTPRINT)
    free = HEADROOM_BYTES + FOOTPRINT + 2 * 2 * FOOTPRINT - 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *device: (free, 2**40))
    order = "".join(
        each.rung for each in events(rung("a"), rung("b")) if isinstance(each, RungStarted)
    )
    assert order == "ab" + "aaa" + "bbb"


def test_sets_that_turn_out_too_large_together_are_made_one_after_the_other() -> None:
    made: list[Operands] = []

    def greedy(problem: ScanProblem, operands: Operands) -> Call:
        if made and made[-1].x is operands.x:
            raise torch.OutOfMemoryError("no room for scratch")
        made.append(operands)
        return bind(problem, operands)

    found = rows(events(rung("a", forward=greedy), rung("b", forward=greedy)))
    assert [found[name, "device"].status for name in "ab"] == ["ok", "ok"]


def test_an_error_in_a_block_is_the_rungs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def durations(calls: Sequence[Timed]) -> list[float]:
        if calls[0].length_ms == 2.0:
            raise RuntimeError("no luck")
        return [1.0] * len(calls)

    monkeypatch.setattr(timing, "durations_ms", durations)
    found = rows(events(rung("a", 1.0), rung("b", 2.0), rung("c", 1.0)))
    assert [found[name, "device"].status for name in "abc"] == ["ok", "failed", "ok"]
    assert found["b", "device"].reason == "RuntimeError: no luck"


@pytest.mark.parametrize("when", ["proof", "block"])
def test_a_broken_context_ends_the_job_and_the_others_keep_their_rows_to_come(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in a broken context fails, whoever it is: they are another worker's to do."""
    broken: list[str] = []

    def durations(calls: Sequence[Timed]) -> list[float]:
        if broken or calls[0].length_ms == 2.0:
            broken.append("illegal memory access")
            raise RuntimeError(broken[0])
        return [1.0] * len(calls)

    monkeypatch.setattr(timing, "durations_ms", durations)
    if when == "proof":
        monkeypatch.setattr(launches, "durations_ms", durations)
    monkeypatch.setattr(interleave, "gpu_is_healthy", lambda: not broken)
    settings = replace(SETTINGS, timings=("device", "graph"))
    found = rows(events(rung("a", 1.0), rung("b", 2.0), rung("c", 1.0), settings=settings))
    assert {name for name, _ in found} == {"b"}
    assert {timing for _, timing in found} == {"device", "graph"}
    assert {row.reason for row in found.values()} == {"RuntimeError: illegal memory access"}


def test_every_block_lies_in_its_own_range(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    entered: list[tuple[str, ...]] = []

    @contextmanager
    def annotate(*words: str):
        entered.append(words)
        yield

    monkeypatch.setattr(interleave, "annotate", annotate)
    monkeypatch.setattr(preflight, "annotate", annotate)
    events(rung("a"), rung("b"))
    label = CASE.label
    measured = [words for words in entered if words[0] == "measure"]
    assert measured == [("measure", str(Label(label, n, "forward", "device"))) for n in "abab"]
    assert [words[0] for words in entered[:3]] == ["case", "warmup", "gate"]
    assert entered.count(("case", label, "a")) == 3
