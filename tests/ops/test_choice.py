"""The rule of ``rung="auto"`` against recorded runs: at most 3 % slower than the best rung."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gspn2bench.kernels.ladder import LADDER
from gspn2bench.ops import choice, gpu
from gspn2bench.ops.choice import CHOICES, STRIPS, choose, preferred
from gspn2bench.problem import ITEM_BYTES, PHASES, Phase, ScanProblem
from gspn2bench.records.store import Run, read_run

from ..helpers.choice_losses import MOST_LOSS, fitted, losses, main, quad_line
from ..helpers.report_fixtures import record, row, save

RESULTS = Path(__file__).resolve().parents[2] / "results"
RUNS = sorted(
    path for scenario in ("small", "four") for path in RESULTS.glob(f"{scenario}-*/run.json")
)
MULTIPROCESSORS = 132


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.parent.name)
def test_the_rule_loses_little_on_any_recorded_case(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = losses([read_run(file.parent)])
    assert cases
    with capsys.disabled():
        print(f"\n{file.parent.name}: worst of {len(cases)} cases:{cases[-1]}")
    assert cases[-1].loss <= MOST_LOSS


def timed(rung: str, latency_ms: float, **changes: Any) -> Any:
    """A row in graph time."""
    interval = {"latency_ms_low": latency_ms * 0.99, "latency_ms_high": latency_ms * 1.01}
    fields = {"launches_expected": 1, "launches_observed": 1, "chunk": 1024}
    shape = {"batch": 1, "channels": 1, "height": 1024, "width": 1024}
    return row(**(fields | shape | {"rung": rung, "latency_ms": latency_ms} | interval | changes))


@pytest.fixture
def synthetic() -> Run:
    """Two cases in which r08 is the best, and one in which it is the worst."""
    four: dict[str, Any] = {"directions": 4, "height": 64, "width": 64, "chunk": None}
    rows = (
        timed("r07", 0.2),
        timed("r08", 0.05),
        timed("r07", 0.5, channels=32),
        timed("r08", 0.4, channels=32),
        timed("r07", 1.0, channels=128),
        timed("r08", 1.1, channels=128),
        timed("r06c", 0.01),  # not among the choices
        timed("r07", 0.03, **four),
        timed("r09", 0.02, **four),
    )
    environment = {"gpu": {"name": "Fixture GPU", "multiprocessors": MULTIPROCESSORS}}
    run = record(run_id="small-20260101T000000Z-abc123", environment=environment)
    return Run(Path("small"), run, rows)


def test_losses_of_a_run(synthetic: Run) -> None:
    cases = losses([synthetic])
    assert len(cases) == 4
    assert {(case.problem.slices, case.chosen, case.loss) for case in cases} == {
        (1, "r08", 0.0) if case.directions == 1 else (1, "r09", 0.0)
        for case in cases
        if case.problem.slices == 1
    } | {(32, "r08", 0.0), (128, "r07", 0.0)}
    assert all(case.best == case.chosen for case in cases)


def test_constants_are_fitted_to_a_run(
    synthetic: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = losses([synthetic])
    assert fitted(cases)["forward", 4] == ((1024, 32 / MULTIPROCESSORS),)
    assert fitted(cases)["backward", 4] == STRIPS["backward", 4]
    assert quad_line(cases, "forward") == 64
    main([str(save(synthetic, tmp_path))])
    assert "STRIPS[('forward', 4)] = ((1024, 0.242),)" in capsys.readouterr().out


def test_a_wrong_rule_is_found(synthetic: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choice.STRIPS, ("forward", 4), ((8192, 0.0),))
    assert losses([synthetic])[-1].loss == pytest.approx(3.0)
    monkeypatch.setitem(choice.STRIPS, ("forward", 4), ((8192, 1.0),))
    assert losses([synthetic])[-1].loss == pytest.approx(0.1)


def test_every_problem_has_a_choice() -> None:
    for phase in PHASES:
        for dtype in ITEM_BYTES:
            assert (phase, ITEM_BYTES[dtype]) in STRIPS
            for line in (1, 64, 257, 10_000):
                for directions in (1, 4):
                    problem = ScanProblem(1, 1, 8, line, dtype, phase=phase)  # type: ignore[arg-type]
                    assert preferred(problem, directions, 132) in CHOICES
                    assert choose(problem, directions, 132) in LADDER


def test_a_rung_that_cannot_run_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "preferred", lambda *_: "r09")
    assert choose(ScanProblem(1, 1, 8, 4096), 4, 132) == "r09"
    assert choose(ScanProblem(1, 1, 8, 4097), 4, 132) == "r07"
    monkeypatch.setattr(choice, "preferred", lambda *_: "r99")
    assert choose(ScanProblem(1, 1, 8, 8), 1, 132) == "r07"


def test_r07_where_only_r08_would_make_transposed_copies() -> None:
    """r07 scans float32 columns of up to 512 where they lie, forward."""
    assert choose(ScanProblem(1, 1, 64, 256, direction="down"), 1, 132) == "r08"
    assert choose(ScanProblem(1, 1, 256, 64, direction="right"), 1, 132) == "r07"
    assert choose(ScanProblem(1, 1, 1024, 64, direction="right"), 1, 132) == "r08"
    assert choose(ScanProblem(1, 1, 256, 64, direction="right", phase="backward"), 1, 132) == "r08"


@pytest.mark.parametrize("phase", PHASES)
def test_auto_is_resolved_from_the_arguments_of_a_call(phase: Phase) -> None:
    def resolve(rung: str, direction: str, *size: int, chunk: int | None = None) -> str:
        x = torch.empty(size, device="meta")
        w = torch.empty(*([4] if direction == "all" else []), 3, *size, device="meta")
        return gpu.resolve(rung, phase, direction, x, w, chunk)

    assert resolve("auto", "all", 1, 1, 256, 64) == "r09"
    assert resolve("auto", "all", 99, 99, 64, 257) == "r07"
    assert resolve("auto", "all", 99, 99, 257, 64) == "r07"
    assert resolve("auto", "down", 99, 99, 2, 2) == "r07"
    assert resolve("auto", "right", 99, 99, 300, 2, chunk=2) == "r07"
    assert resolve("r05", "all", 1, 1, 2, 2) == "r05"
