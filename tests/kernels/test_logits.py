"""Weights given as logits: normalized by the kernel, by the reference, and by torch before r07."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from gspn2bench.baselines.scans import SCANS
from gspn2bench.cases.scenario import load
from gspn2bench.cases.selection import cases
from gspn2bench.kernels import arithmetic, reference
from gspn2bench.kernels.contract import Operands, Rung
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r07_gspn2 import columns, configuration
from gspn2bench.kernels.r07_gspn2 import forward as r07_forward
from gspn2bench.ops import normalize_weights
from gspn2bench.problem import DIRECTIONS, DTYPES, WEIGHTS, Direction, DType, ScanProblem, Weights
from gspn2bench.workload import gate, inputs

R07, UNFUSED = LADDER["r07"], SCANS["r07_unfused"]
simulated = pytest.mark.skipif(not SIMULATED, reason="calls a device function from the host")


def oriented(
    direction: Direction, lines: int, positions: int, chunk: int | None = None, **fields: Any
) -> ScanProblem:
    plane = (lines, positions) if direction in ("down", "up") else (positions, lines)
    return ScanProblem(1, 2, *plane, direction=direction, chunk=chunk, logits=True, **fields)


def wild(problem: ScanProblem, device: str) -> Operands:
    """Logits of neighbours outside the line that would take all the weight."""
    operands = inputs.make(problem, device, seed=2)
    line = -1 if problem.vertical else -2
    operands.w[0].select(line, 0).fill_(60_000)
    operands.w[2].select(line, problem.line - 1).fill_(60_000)
    return operands


def verdict(rung: Rung, problem: ScanProblem, operands: Operands) -> gate.GateResult:
    kept = operands.w.clone()
    found = gate.check(problem, operands, rung.bind(problem, operands))
    assert torch.equal(operands.w, kept), "w was written"
    return found


def hold(rung: Rung, problem: ScanProblem, device: str) -> None:
    found = verdict(rung, problem, wild(problem, device))
    assert found.passed, f"{problem}: {found.reason}"


# The kernels.


@pytest.mark.parametrize(
    ("number", "direction", "weights", "dtype"),
    [(number, *each) for number, each in enumerate(product(DIRECTIONS, WEIGHTS, DTYPES))],
)
def test_r07_normalizes(
    number: int,
    direction: Direction,
    weights: Weights,
    dtype: DType,
    device: str,
    small_transposes: None,
) -> None:
    chunk = (None, 4, 1)[number % 3]
    hold(R07, oriented(direction, 6, 5, chunk, weights=weights, dtype=dtype), device)


@pytest.mark.parametrize(
    ("direction", "lines", "positions"),
    [
        ("down", 5, 33),  # a second warp of one thread
        ("up", 2, 32),
        ("down", 3, 1),  # the middle neighbour alone
        ("right", 4, 66),  # tiles: a second warp of one thread
        ("left", 3, 2),  # transposed
        ("left", 4, 1),
    ],
)
def test_r07_normalizes_to_the_ends_of_a_line(
    direction: Direction, lines: int, positions: int, device: str, small_transposes: None
) -> None:
    problem = oriented(direction, lines, positions, weights="shared")
    assert columns.fits(problem) == (direction in ("right", "left") and lines == 4)
    hold(R07, problem, device)


@pytest.mark.parametrize(
    ("words", "pack", "dtype", "width"),
    [(3, 1, "float32", 70), (2, 2, "float32", 100), (1, 4, "bfloat16", 100)],
)
def test_r07_normalizes_a_run_of_columns_a_thread(
    words: int, pack: int, dtype: DType, width: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = ScanProblem(1, 1, 7, width, dtype=dtype, logits=True)
    config = replace(
        configuration.choose(problem), line_words=width // pack, threads=32, words=words, pack=pack
    )
    monkeypatch.setattr(configuration, "choose", lambda problem: config)
    hold(R07, problem, device)


EXTREME = (-6e4, -500.0, -101.0, -100.0, -21.0, -20.0, -19.0, 0.0, 30.0, 101.0, 6e4)


@pytest.mark.parametrize("direction", ["down", "right"])
def test_r07_normalizes_any_logits(direction: Direction, device: str) -> None:
    problem = oriented(direction, 6, 16, weights="shared")
    operands = inputs.make(problem, device, seed=0)
    chosen = np.random.default_rng(0).choice(EXTREME, problem.weight_shape)
    operands.w.copy_(torch.tensor(chosen))
    found = verdict(R07, problem, operands)
    assert found.passed, found.reason


@simulated
def test_three_logits_are_three_weights() -> None:
    for three in product((-1e30, *EXTREME, 1e30), repeat=3):
        for has_left, has_right in product((True, False), repeat=2):
            found = arithmetic.normalized(*map(np.float32, three), has_left, has_right)
            inside = [value if has else -np.inf for value, has in
                      zip(three, (has_left, True, has_right), strict=True)]  # fmt: skip
            logs = torch.nn.functional.logsigmoid(torch.tensor(inside, dtype=torch.float64))
            expected = logs.softmax(0).numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
            assert sum(found) == pytest.approx(1, abs=1e-6)
            assert has_left or found[0] == 0
            assert has_right or found[2] == 0


def naive(left: Any, middle: Any, right: Any, has_left: bool, has_right: bool) -> Any:
    """Sigmoids over their sum, in float32: 0 / 0 where all are very negative."""
    inside = np.array([has_left, True, has_right])
    with np.errstate(all="ignore"):
        sigmoids = np.float32(inside / (1 + np.exp(-np.array([left, middle, right]))))
        return sigmoids / sigmoids.sum()


FAULTS: dict[str, Any] = {
    "the left neighbour outside": lambda a, b, c, left, right: arithmetic.normalized(
        a, b, c, True, right
    ),
    "the right neighbour outside": lambda a, b, c, left, right: arithmetic.normalized(
        a, b, c, left, True
    ),
    "left for right": lambda a, b, c, left, right: arithmetic.normalized(c, b, a, left, right),
    "not normalized": lambda a, b, c, left, right: (a, b, c),
    "0 / 0": naive,
}


@simulated
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("module", "direction"), [(r07_forward, "down"), (columns, "left")])
def test_a_planted_fault_is_found(
    module: Any, direction: Direction, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "normalized", FAULTS[fault])
    problem = oriented(direction, 4, 3)
    operands = wild(problem, "cpu")
    if fault == "0 / 0":
        operands.w.fill_(-200)
    assert not verdict(R07, problem, operands).passed


# The reference and the inputs.


@pytest.mark.parametrize("xp", ["numpy", "torch"])
@pytest.mark.parametrize(("direction", "weights"), list(product(DIRECTIONS, WEIGHTS)))
def test_the_reference_normalizes_as_the_operator(
    direction: Direction, weights: Weights, xp: str
) -> None:
    problem = ScanProblem(2, 3, 4, 5, direction=direction, weights=weights, logits=True)
    scale = torch.tensor([1.0, 30.0, 1e4]).repeat(20)[:20].reshape(4, 5)
    logits = torch.randn(problem.weight_shape, dtype=torch.float64) * scale
    grouped = logits.reshape(3, -1, 1, 4, 5)
    kept = grouped.clone()
    found = reference.normalize(problem, grouped.numpy() if xp == "numpy" else grouped)
    expected = normalize_weights(logits, direction=direction).reshape(grouped.shape)
    torch.testing.assert_close(torch.as_tensor(found), expected)
    assert torch.equal(grouped, kept)


def test_logits_are_normal_and_weights_are_not() -> None:
    problem = ScanProblem(2, 3, 16, 16, logits=True)
    w = inputs.make(problem, "cpu", 0).w
    assert abs(w.mean()) < 0.1
    assert w.std() == pytest.approx(1, abs=0.05)
    assert (inputs.make(replace(problem, logits=False), "cpu", 0).w >= 0).all()


# Who takes them.


def test_only_a_rung_that_normalizes_takes_logits() -> None:
    problem = ScanProblem(1, 1, 4, 4, logits=True)
    for name, rung in LADDER.items():
        reason = rung.skip_reason(problem.with_direction(rung.native))
        expected = f"logits: {name} takes weights; normalize them first"
        assert reason == (None if name in ("r07", "r08", "r09") else expected)


def test_logits_cost_no_bytes_and_no_launches() -> None:
    for direction, dtype in product(DIRECTIONS, DTYPES):
        problem = oriented(direction, 6, 5, dtype=dtype)
        weights = replace(problem, logits=False)
        assert R07.traffic(problem) == R07.traffic(weights)
        assert R07.launches is not None
        assert R07.launches(problem) == R07.launches(weights)


@pytest.mark.parametrize(("direction", "weights"), [("down", "shared"), ("left", "channel")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_unfused_pair(
    direction: Direction, weights: Weights, dtype: DType, device: str, small_transposes: None
) -> None:
    problem = oriented(direction, 6, 5, 4, weights=weights, dtype=dtype)
    hold(UNFUSED, problem, device)
    sets = 1 if weights == "shared" else 2
    more = 2 * 3 * sets * problem.plane * problem.item_bytes
    assert UNFUSED.traffic(problem) == R07.traffic(replace(problem, logits=False)) + more


def test_the_unfused_pair_takes_logits_alone() -> None:
    problem = ScanProblem(1, 1, 4, 4)
    assert UNFUSED.skip_reason(problem) == "logits: r07_unfused takes logits; r07 takes weights"
    assert UNFUSED.skip_reason(ScanProblem(1, 1, 4, 10**6, logits=True)) is not None


def test_the_scenario_is_of_logits_and_both_can_run_it() -> None:
    plan = load("normalize")
    assert set(plan.rungs) == {"r07", "r07_unfused"}
    for case in cases(plan):
        problem = case.problem("down")
        assert problem.logits
        assert ", logits" in case.label
        assert R07.skip_reason(problem) is UNFUSED.skip_reason(problem) is None


# On a GPU.


@pytest.mark.gpu
@pytest.mark.parametrize(("direction", "dtype"), list(product(DIRECTIONS, DTYPES)))
def test_every_extent_of_logits(direction: Direction, dtype: DType, device: str) -> None:
    extents = (1, 2, 31, 33, 64, 500, 512, 1024, 1025, 2048, 2049)
    for number, (lines, positions) in enumerate(product((1, 5, 66, 500), extents)):
        chunk = (None, 1, 7, 64)[number % 4]
        problem = oriented(
            direction,
            lines,
            positions,
            None if (chunk or 0) > lines else chunk,
            weights=WEIGHTS[number % 2],
            dtype=dtype,
        )
        hold(R07, problem, device)


@pytest.mark.gpu
def test_approximate_instructions_over_many_lines(device: str) -> None:
    for weights in WEIGHTS:
        hold(R07, ScanProblem(2, 4, 4096, 1024, weights=weights, logits=True), device)


@pytest.mark.gpu
def test_a_graph_holds_the_unfused_pair(device: str) -> None:
    problem = ScanProblem(2, 3, 37, 64, weights="shared", logits=True)
    operands = inputs.make(problem, device, seed=0)
    call = UNFUSED.bind(problem, operands)
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for _ in range(2):
        found = gate.check(problem, operands, graph.replay)
        assert found.passed, found.reason
        inputs.vary([operands])
