"""Baseline scans: they pass the gate, have undeclared launches, and give reasons for skips."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gspn2bench import registry
from gspn2bench.analysis.frame import frame
from gspn2bench.baselines.scans import SCANS, jax_scan, torch_compile
from gspn2bench.cases.scenario import Case, load
from gspn2bench.cases.selection import cases
from gspn2bench.errors import UsageError
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.measure import launches, timing
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.measure.timing import Budget
from gspn2bench.problem import DIRECTIONS, DTYPES, PHASES, WEIGHTS, ScanProblem
from gspn2bench.report.text.terminal import render_terminal
from gspn2bench.report.verdict import conclusion
from gspn2bench.run import interleave
from gspn2bench.run.trial import Settings
from gspn2bench.traffic import rows as traffic_rows
from gspn2bench.workload import gate, inputs

from ..helpers.pretended_gpu import BOUNDS, CASE, COPY_MS, RUNG, bind, pretended_gpu
from ..helpers.report_fixtures import real_run

SHAPES = [(2, 3, 37, 21, None), (1, 2, 33, 40, 7), (1, 1, 1, 4, None), (2, 1, 5, 1, 2)]
"""Batch, channels, lines, positions per line, chunk. Some have more lines than one block."""
FRAMEWORKS = ("torch_loop", "torch_compile", "jax_scan")
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
baseline = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_jax if "jax" in name else ()) for name in FRAMEWORKS]
)
compiling = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile without Inductor, which takes ten seconds per case on a CPU."""
    monkeypatch.setattr(torch_compile, "BACKEND", "eager")
    torch_compile._compiled.cache_clear()
    yield
    torch_compile._compiled.cache_clear()
    torch.compiler.reset()


def oriented(shape: tuple[int, ...], direction: str, **fields: object) -> ScanProblem:
    batch, channels, lines, positions, chunk = shape
    plane = (lines, positions) if direction in ("down", "up") else (positions, lines)
    return ScanProblem(batch, channels, *plane, direction=direction, chunk=chunk, **fields)


def check(rung: Rung, problem: ScanProblem, device: str) -> None:
    """Run the gate twice, the second time on changed inputs; no call changes its inputs."""
    operands = inputs.make(problem, device, seed=0)
    call = rung.bind(problem, operands)
    for _ in range(2):
        before = inputs.clone(operands)
        result = gate.check(problem, operands, call)
        assert result.passed, f"{problem}: {result.reason}"
        for name in ("x", "lam", "w", *(("h", "grad_h") if problem.phase == "backward" else ())):
            assert torch.equal(getattr(operands, name), getattr(before, name))
        inputs.vary([operands])


@baseline
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.usefixtures("uncompiled")
def test_a_baseline_equals_the_reference(name: str, phase: str, device: str) -> None:
    rung, checked = SCANS[name], 0
    every = list(product(SHAPES, DIRECTIONS, WEIGHTS, DTYPES))
    # each problem is traced again, which is slow; every 5th or 7th still covers all values
    chosen = every if name == "torch_loop" else every[:: 5 if phase == "forward" else 7]
    for shape, direction, weights, dtype in chosen:
        problem = oriented(shape, direction, weights=weights, dtype=dtype, phase=phase)
        if phase == "backward" and rung.backward is None:
            assert rung.skip_reason(problem) == f"phase: {name} has no backward kernel"
            continue
        check(rung, problem, device)
        checked += 1
    assert checked or name == "jax_scan"


@baseline
@pytest.mark.usefixtures("uncompiled")
def test_binding_writes_no_output(name: str, device: str) -> None:
    """Otherwise the gate would accept a call that writes nothing."""
    problem = ScanProblem(1, 2, 5, 4)
    operands = inputs.make(problem, device, seed=0)
    SCANS[name].bind(problem, operands)()
    assert torch.isfinite(operands.h).all()
    inputs.poison(problem, operands)
    SCANS[name].bind(problem, operands)
    assert operands.h.isnan().all()


@compiling
@pytest.mark.parametrize("phase", PHASES)
def test_compiled_functions_are_reused(
    phase: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Inductor, in several blocks; new operands and a new bind compile nothing."""
    import torch._dynamo

    monkeypatch.setattr(torch_compile, "LINES", 3)
    problem = oriented((1, 2, 8, 5, None), "left", weights="shared", phase=phase)
    rung = SCANS["torch_compile"]
    check(rung, problem, device)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        check(rung, problem, device)
    assert compiled == torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_without_jax_its_rows_name_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_scan, "find_spec", lambda name: None)
    row, *_ = interleave.measure_rung(
        Case(1, 1, 2, 2), SCANS["jax_scan"], Settings("t"), Ceilings()
    )
    assert row.status == "skipped"
    assert (row.reason or "").startswith("jax is not installed; pip install")


@pytest.mark.skipif(not SIMULATED, reason="on a GPU launches are counted")
def test_a_simulated_row_has_no_launches_of_a_library() -> None:
    (row,) = interleave.measure_rung(
        Case(1, 2, 5, 4), SCANS["torch_loop"], Settings("t"), Ceilings()
    )
    assert row.status == "ok"
    assert row.launches_expected is row.launches_observed is None
    assert row.gate_error is not None


# on a fake GPU


def free(**changes: object) -> Rung:
    """A rung that needs no GPU and makes two undeclared launches per call."""
    return replace(RUNG, id="free", launches=None, **changes)  # type: ignore[arg-type]


@pytest.fixture
def two_launches(pretended_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (launches, timing):
        monkeypatch.setattr(module, "durations_ms", lambda calls: [COPY_MS, COPY_MS] * len(calls))


def settings(*timings: str) -> Settings:
    return Settings("t", timings=timings, l2="warm", budget=Budget(5, 1.0))  # type: ignore[arg-type]


@pytest.mark.usefixtures(pretended_gpu.__name__, "two_launches")
def test_undeclared_launches_are_recorded() -> None:
    (row,) = interleave.measure_rung(CASE, free(), settings("device"), BOUNDS)
    assert (row.status, row.launches_expected, row.launches_observed) == ("ok", None, 2)
    assert row.latency_ms == pytest.approx(2 * COPY_MS)
    declared = replace(free(), launches=lambda problem: 1)
    (row,) = interleave.measure_rung(CASE, declared, settings("device"), BOUNDS)
    assert (row.status, row.latency_ms) == ("invalid", None)


@pytest.mark.usefixtures(pretended_gpu.__name__, "two_launches")
def test_a_call_that_no_graph_can_capture_is_measured_in_other_modes() -> None:
    rung = free(graph_unsupported_reason="waits inside")
    rows = {
        row.timing: row
        for row in interleave.measure_rung(CASE, rung, settings("device", "graph"), BOUNDS)
    }
    assert (rows["graph"].status, rows["graph"].reason) == ("skipped", "waits inside")
    assert rows["graph"].latency_ms is None
    assert rows["device"].status == "ok"
    (row,) = interleave.measure_rung(CASE, rung, settings("graph"), BOUNDS)
    assert (row.status, row.reason) == ("skipped", "waits inside")


@pytest.mark.usefixtures(pretended_gpu.__name__)
def test_under_a_profiler_launches_come_from_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Graph:
        def __init__(self, calls: Sequence[Call], repeat: int) -> None:
            self.calls = calls

        def replay(self) -> None:
            for call in self.calls:
                call()

    monkeypatch.setattr(launches, "count_launches", lambda call: None)
    monkeypatch.setattr(launches, "count_graph_nodes", lambda graph: 7)
    monkeypatch.setattr(timing, "_capture", Graph)
    monkeypatch.setattr(timing, "elapsed_ms", lambda action: timing.MIN_REPLAY_MS)
    rows = interleave.measure_rung(CASE, free(), settings("graph", "device"), BOUNDS)
    assert {row.timing: row.launches_observed for row in rows} == {"graph": 7, "device": None}


@pytest.mark.usefixtures(pretended_gpu.__name__)
def test_a_rung_that_fails_the_gate_has_no_skipped_graph_row() -> None:
    def forward(problem: ScanProblem, operands: Operands) -> Call:
        return lambda: bind(problem, operands)() or operands.h[0, 0, 0, 0].fill_(math.nan)

    rung = free(forward=forward, graph_unsupported_reason="waits inside")
    rows = interleave.measure_rung(CASE, rung, settings("graph", "device"), BOUNDS)
    assert [row.status for row in rows] == ["incorrect", "incorrect"]


# registry, scenario, reports


def test_baselines_are_found_by_id_and_their_ids_are_taken(tmp_path: Path) -> None:
    assert [registry.find(name) for name in SCANS] == [*SCANS.values()]
    assert all(name == rung.id for name, rung in SCANS.items())
    with pytest.raises(UsageError, match="did you mean torch_loop"):
        registry.find("torch_lop")
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from gspn2bench.kernels.ladder import LADDER\n"
        "RUNG = replace(LADDER['r07'], id='torch_loop')\n"
    )
    with pytest.raises(UsageError, match="has the id torch_loop, already taken by a baseline"):
        registry.find(str(file))


def test_baselines_can_run_every_case_of_their_scenario() -> None:
    plan = load("peers")
    assert set(FRAMEWORKS) < set(plan.rungs)
    for case, name in product(cases(plan, []), FRAMEWORKS[:2]):
        (problem,) = case.problems(SCANS[name].native)
        assert SCANS[name].skip_reason(problem) is None


def test_reports_show_observed_launches_if_none_are_declared() -> None:
    run = real_run()
    rows = [
        row.model_copy(update={"launches_expected": None, "launches_observed": 321})
        if row.rung == "r07"
        else row
        for row in run.rows
    ]
    run = replace(run, rows=tuple(rows))
    table = frame([run])
    assert table.loc[table["rung"] == "r07", "launches_agree"].isna().all()
    (line,) = (line for line in conclusion(run).details if line.startswith("Launches"))
    assert "r01" in line
    assert "r07" not in line
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_terminal(run))
    assert " 321 " in capture.get()


def test_the_tracer_skips_library_kernels() -> None:
    plan = traffic_rows.TrafficSweep("t", "warm", (Case(1, 1, 2, 2),), ("torch_loop",), "trace", 0)
    row = traffic_rows.trace_rung(plan, plan.cases[0], "torch_loop")
    assert row.status == "skipped"
    assert row.reason == "tracer: torch_loop runs library kernels, which cannot be traced"


# on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["torch_loop", "torch_compile"])
def test_a_graph_captures_a_baseline_of_torch(name: str, phase: str) -> None:
    problem = oriented((2, 3, 37, 21, None), "left", phase=phase, weights="shared")
    operands = inputs.make(problem, "cuda", seed=0)
    call = SCANS[name].bind(problem, operands)
    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for _ in range(2):
        result = gate.check(problem, operands, graph.replay)
        assert result.passed, result.reason
        inputs.vary([operands])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torch_loop", "torch_compile"])
def test_all_three_latencies_of_a_baseline(name: str) -> None:
    settings = Settings("t", l2="warm", budget=Budget(15, 2.0))
    rows = list(interleave.measure_rung(Case(2, 3, 64, 48), SCANS[name], settings, Ceilings()))
    assert [(row.status, row.reason) for row in rows] == [("ok", None)] * 3
    assert {row.launches_expected for row in rows} == {None}
    (observed,) = {row.launches_observed for row in rows}
    assert (observed or 0) >= 63  # lines after the first
    assert (rows[0].compile_s or 0) >= 0
