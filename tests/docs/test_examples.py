"""The examples of the docs, run as a reader would run them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench import registry
from gspn2bench.app import app
from gspn2bench.cases import scenario, selection
from gspn2bench.kernels.contract import Rung
from gspn2bench.problem import ScanProblem
from gspn2bench.records.store import Run, read_run

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
MY_RUNG = EXAMPLES / "my_rung.py"


@pytest.fixture(scope="module")
def mine() -> Rung:
    return registry.find(str(MY_RUNG))


def swept(results: Path, rung: Path, *arguments: str) -> tuple[int, Run]:
    words = ["sweep", "quick", "--rung", str(rung), "--results", str(results), *arguments]
    done = CliRunner().invoke(app, words)
    (folder,) = results.iterdir()
    return done.exit_code, read_run(folder)


def test_my_rung_is_green_on_the_quick_sweep(tmp_path: Path, mine: Rung) -> None:
    code, run = swept(tmp_path, MY_RUNG)
    assert code == 0
    assert len({row.case for row in run.rows}) == 4
    for row in run.rows:
        assert (row.rung, row.status) == ("mine", "ok")
        assert row.gate_error is not None
        assert row.gate_error <= (row.gate_tolerance or 0)
        assert row.gate_slices == row.batch * row.channels
        problem = ScanProblem(row.batch, row.channels, row.height, row.width)
        assert row.launches_observed == row.launches_expected == mine.launches(problem) == 1
        assert row.bytes_model == problem.compulsory_bytes


def test_my_rung_broken_is_caught(tmp_path: Path) -> None:
    text = MY_RUNG.read_text()
    right = "line[column], line[column + 1], line[column + 2]"
    assert right in text
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace(right, "line[column + 2], line[column + 1], line[column]"))
    code, run = swept(tmp_path / "results", wrong, "-a", "batch=1", "-a", "size=8")
    assert code == 3
    assert {row.status for row in run.rows} == {"incorrect"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"width": 1024}, None),
        ({"width": 1025}, "width: 1025 is above 1024"),
        ({"direction": "up"}, "plain forward scan"),
        ({"chunk": 2}, "plain forward scan"),
        ({"dtype": "float16"}, "plain forward scan"),
        ({"weights": "shared"}, "plain forward scan"),
        ({"phase": "backward"}, "no backward kernel"),
    ],
)
def test_my_rung_says_what_it_cannot_run(
    mine: Rung, fields: dict[str, object], reason: str | None
) -> None:
    problem = ScanProblem(**({"batch": 1, "channels": 2, "height": 3, "width": 4} | fields))  # type: ignore[arg-type]
    found = mine.skip_reason(problem)
    assert found is None if reason is None else reason in (found or "")


def test_the_example_scenario_has_the_cases_that_its_page_shows() -> None:
    plan = scenario.load(str(EXAMPLES / "chunks.toml"))
    labels = [case.label for case in selection.cases(plan)]
    assert labels == [
        "N1 C1 40x33 float32, chunk 8",
        "N1 C1 40x33 float32",
        "N1 C4 40x33 float32, chunk 8",
        "N1 C4 40x33 float32",
        "N2 C1 13x1 float32, chunk 1",
    ]
    page = (EXAMPLES.parent / "scenarios.md").read_text()
    assert all(f"│ {label}" in page for label in labels)
    assert all(rung in page for rung in registry.specs(plan.rungs))
