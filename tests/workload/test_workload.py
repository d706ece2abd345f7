"""The four directions of one input, side by side."""

import math
from dataclasses import replace

import pytest
import torch

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels import reference
from gspn2bench.kernels.contract import Call, Operands
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure import launches
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.problem import DIRECTIONS, Phase, ScanProblem
from gspn2bench.run import interleave, trial
from gspn2bench.workload import Scans, gate

FOUR = Case(1, 1, 2, 3, directions=4)


def test_four_scans_share_only_x(device: str) -> None:
    work = Scans.of(FOUR, LADDER["r07"])
    assert [problem.direction for problem in work.problems] == list(DIRECTIONS)
    operands = work.operands(device, seed=0)
    for scans in (operands, work.clone(operands)):
        assert len({scan.x.data_ptr() for scan in scans}) == 1
        assert len({scan.lam.data_ptr() for scan in scans}) == 4
        assert len({scan.h.data_ptr() for scan in scans}) == 4
    assert not torch.equal(operands[0].lam, operands[1].lam)


def test_x_is_counted_once() -> None:
    work = Scans.of(FOUR, LADDER["r07"])
    tensor = 2 * 3 * 4
    assert work.compulsory_bytes == (1 + 4 * 5) * tensor
    assert Scans.of(replace(FOUR, directions=1), LADDER["r07"]).compulsory_bytes == 6 * tensor


@pytest.mark.parametrize("phase", ["forward", pytest.param("backward", marks=pytest.mark.gpu)])
def test_every_direction_is_run_and_compared(
    phase: Phase, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "COMPARE_SECONDS", math.inf)
    work = Scans.of(replace(FOUR, phase=phase), LADDER["r07"])
    operands = work.operands(device, seed=0)
    call = work.bind(operands)
    scans = list(zip(work.problems, operands, strict=True))
    result = gate.check_all(scans, call)
    assert result.passed, result.reason
    assert result.slices == 4
    assert launches.count_launches(call) == work.launches


@pytest.mark.parametrize("missing", [0, 3])
def test_a_missing_direction_fails_the_gate(missing: int, device: str) -> None:
    work = Scans.of(FOUR, LADDER["r07"])
    operands = work.operands(device, seed=0)
    scans = list(zip(work.problems, operands, strict=True))
    calls = [work.rung.bind(problem, scan) for problem, scan in scans]
    del calls[missing]

    def call() -> None:
        for each in calls:
            each()

    result = gate.check_all(scans, call)
    assert result.reason == "h: 6 of 6 elements are NaN or infinite"


def bind(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the reference, in torch, which is faster than the simulator."""
    groups = (problem.slices, 1, problem.height, problem.width)

    def call() -> None:
        x, lam = (t.double().view(groups) for t in (operands.x, operands.lam))
        h = reference.forward(problem, x, lam, operands.w.double().view(3, *groups))
        operands.h.copy_(h.view(problem.data_shape))

    return call


@pytest.mark.skipif(not SIMULATED, reason="this rung has no kernel of its own to count")
def test_the_row_records_four_directions() -> None:
    rung = replace(LADDER["r07"], id="mine", forward=bind, launches=lambda problem: 0)
    settings = trial.Settings("test", timings=("device",))
    (row,) = interleave.measure_rung(FOUR, rung, settings, Ceilings())
    assert row.status == "ok", row.reason
    assert (row.direction, row.directions) == ("all", 4)
    assert row.gate_slices == 4
    assert "4 directions" in row.case
    (skipped,) = interleave.measure_rung(FOUR, LADDER["r01"], settings, Ceilings())
    assert skipped.status == "skipped"
    assert "direction" in (skipped.reason or "")


@pytest.mark.gpu
def test_four_directions_are_captured_in_a_graph() -> None:
    work = Scans.of(Case(2, 4, 256, 256, directions=4), LADDER["r07"])
    operands = work.operands("cuda", seed=0)
    call = work.bind(operands)
    call()
    torch.cuda.synchronize()
    expected = [scan.h.clone() for scan in operands]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for scan in operands:
        scan.h.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    for scan, h in zip(operands, expected, strict=True):
        assert torch.equal(scan.h, h)
