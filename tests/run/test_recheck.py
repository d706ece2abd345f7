"""Outputs that go wrong after the preflight make a row incorrect, on a fake GPU."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from gspn2bench.baselines.modules import MODULES, reference
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.measure import launches, timing
from gspn2bench.measure.timing import Budget
from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.nn.softmax import TorchAttention
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Row
from gspn2bench.run import interleave
from gspn2bench.run.trial import Settings, Trial
from gspn2bench.workload import Scans, inputs
from gspn2bench.workload.gate import GateResult
from gspn2bench.workload.modules import ModuleRun

from ..helpers.pretended_gpu import BOUNDS, CASE, COPY_MS, RUNG, bind, pretended_gpu

float64_copy = reference.float64_copy
pytestmark = pytest.mark.usefixtures(pretended_gpu.__name__)

PREFLIGHT_CALLS = 7
"""More calls than the preflight makes."""
Fault = Callable[[ScanProblem, Operands], Call]


def wrong_after(later: Callable[[Call, Operands, dict[str, torch.Tensor]], None]) -> Fault:
    """A rung whose first calls are right and whose later calls are ``later``.

    The first call on an operand set is always right.
    """
    calls: list[None] = []

    def forward(problem: ScanProblem, operands: Operands) -> Call:
        correct, kept = bind(problem, operands), dict[str, torch.Tensor]()

        def call() -> None:
            calls.append(None)
            if len(calls) <= PREFLIGHT_CALLS or not kept:
                correct()
                kept["h"] = operands.h.clone()
            else:
                later(correct, operands, kept)

        return call

    return forward


def _from_a_cache(_correct: Call, operands: Operands, kept: dict[str, torch.Tensor]) -> None:
    operands.h.copy_(kept["h"])


def _one_element(correct: Call, operands: Operands, kept: dict[str, torch.Tensor]) -> None:
    correct()
    operands.h.view(-1)[-1] = kept["h"].view(-1)[-1]


FAULTS = {
    "answers from a cache": _from_a_cache,
    "writes its output only the first few times": lambda *_: None,
    "leaves one element as it was": _one_element,
}


class Replay:
    """A graph that runs its calls again, as a replay does."""

    def __init__(self, calls: list[Call], repeat: int) -> None:
        self.calls = [calls[index % len(calls)] for index in range(repeat)]

    def replay(self) -> None:
        for call in self.calls:
            call()


@pytest.fixture(autouse=True)
def replays(pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def elapsed_ms(action: Callable[[], object]) -> float:
        action()
        return timing.MIN_REPLAY_MS

    monkeypatch.setattr(timing, "_capture", Replay)
    monkeypatch.setattr(timing, "elapsed_ms", elapsed_ms)
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: len(graph.calls))
    monkeypatch.setattr(timing, "durations_ms", durations_ms)


def durations_ms(calls: list[Call]) -> list[float]:
    for call in calls:
        call()
    return [COPY_MS] * len(calls)


def rows(*rungs: Rung, l2: str = "warm", dtype: str = "float32") -> dict[tuple[str, str], Row]:
    settings = Settings("planted", l2=l2, budget=Budget(15, 60.0))  # type: ignore[arg-type]
    case = replace(CASE, dtype=dtype)
    events = interleave.measure_interleaved(case, [(rung, settings) for rung in rungs], BOUNDS)
    return {(row.rung, row.timing): row for row in events if isinstance(row, Row)}


@pytest.mark.parametrize("l2", ["warm", "cold"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_after_the_preflight_makes_every_row_incorrect(fault: str, l2: str) -> None:
    faulty = replace(RUNG, id="faulty", forward=wrong_after(FAULTS[fault]))
    by_key = rows(faulty, replace(RUNG, id="right"), l2=l2)
    assert len(by_key) == 6
    for (rung, _), row in by_key.items():
        if rung == "right":
            assert (row.status, row.reason) == ("ok", None)
            continue
        assert row.status == "incorrect"
        assert (row.reason or "").startswith("after the samples, on changed inputs, h: error")
        assert row.latency_ms is None
        assert row.samples_ms == ()
        assert (row.gate_error or 0) > (row.gate_tolerance or 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_inputs_are_restored_after_each_check(dtype: str) -> None:
    bound: list[Operands] = []

    def forward(problem: ScanProblem, operands: Operands) -> Call:
        bound.append(operands)
        return bind(problem, operands)

    by_key = rows(replace(RUNG, forward=forward), dtype=dtype)
    assert {row.status for row in by_key.values()} == {"ok"}
    _, measured = bound
    smallest = 2 * torch.finfo(measured.x.dtype).tiny
    fresh = inputs.make(CASE.problems("down")[0], "cpu", 0)
    exact = fresh.x.to(measured.x.dtype)
    whole = exact.abs() >= smallest
    assert whole.float().mean() > 0.99
    assert torch.equal(measured.x[whole], exact[whole])


class Forgetful(TokenMixer):
    """A module that computes its first outputs and answers later calls with the last of them."""

    planar = False

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.mixer = TorchAttention(4, 1)
        self.outputs: list[torch.Tensor] = []

    def mix(self, tokens: torch.Tensor, size: Size) -> torch.Tensor:
        if len(self.outputs) < PREFLIGHT_CALLS:
            self.outputs.append(self.mixer.mix(tokens, size))
        return self.outputs[-1]


@pytest.fixture
def modules_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    make = ModuleRun.operands
    monkeypatch.setattr(ModuleRun, "operands", lambda work, device, seed: make(work, "cpu", seed))


ATTENTION = MODULES["attention_torch"]
TOKENS = Case(2, 4, 5, 6, part="module")


@pytest.mark.usefixtures("modules_on_the_cpu")
def test_a_module_that_answers_from_a_cache_is_incorrect(monkeypatch: pytest.MonkeyPatch) -> None:
    # the reference is the copy of the module that does compute
    monkeypatch.setattr(reference, "float64_copy", lambda module: float64_copy(_mixer(module)))
    stale = replace(ATTENTION, id="stale", build={"module": lambda case: Forgetful()})
    right = replace(ATTENTION, build={"module": lambda case: TorchAttention(4, 1)})
    settings = Settings("planted", l2="warm", budget=Budget(15, 60.0))
    events = interleave.measure_interleaved(TOKENS, [(stale, settings), (right, settings)], BOUNDS)
    found = {(row.rung, row.timing): row for row in events if isinstance(row, Row)}
    assert {row.status for (rung, _), row in found.items() if rung == ATTENTION.id} == {"ok"}
    reasons = {row.reason for (rung, _), row in found.items() if rung == "stale"}
    assert len(reasons) == 1
    assert "after the samples, on changed inputs, y: error" in (reasons.pop() or "")


def _mixer(module: nn.Module) -> nn.Module:
    return module.mixer if isinstance(module, Forgetful) else module


@pytest.mark.usefixtures("modules_on_the_cpu")
def test_modules_share_inputs_and_not_the_outputs_that_they_allocate() -> None:
    """A replay of one module's graph does not write the tensor that the other allocated."""
    one, two = (
        Trial(TOKENS, replace(ATTENTION, id=name), Settings("planted", l2="warm"), BOUNDS)
        for name in ("one", "two")
    )
    for trial in (one, two):
        trial.preflight()
    bound = interleave._bind_operand_sets([one, two])
    (first,), (second,) = bound[one].operand_sets, bound[two].operand_sets
    assert first.x.data_ptr() == second.x.data_ptr()
    bound[one].calls[0]()
    y = first.y
    assert y is not None
    assert second.y is None
    bound[two].calls[0]()
    assert first.y is y
    assert second.y is not y


def test_without_memory_for_the_reference_torch_returns_its_cache_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare, steps = Scans.compare, list[str]()

    def short_of_memory(work: Scans, operands: tuple[Operands, ...]) -> GateResult:
        steps.append("compare")
        if steps.count("compare") == 1:
            raise torch.OutOfMemoryError("no memory for the reference")
        return compare(work, operands)

    monkeypatch.setattr(Scans, "compare", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: steps.append("empty"))
    settings = Settings("planted", timings=("device",), l2="warm", budget=Budget(1, 60.0))
    (row,) = interleave.measure_rung(CASE, RUNG, settings, BOUNDS)
    assert row.status == "ok"
    assert steps[-3:] == ["compare", "empty", "compare"]
