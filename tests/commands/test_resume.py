"""``--resume``, as sweep and traffic share it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench.app import app
from gspn2bench.commands import resume
from gspn2bench.errors import UsageError
from gspn2bench.system import backend, environment
from gspn2bench.system.backend import Backend

from ..helpers.report_fixtures import real_run, save, simulated_run

both = pytest.mark.parametrize("command", ["sweep", "traffic"])


@both
@pytest.mark.parametrize("extra", [["quick"], ["--rung", "r07"], ["-a", "size=4"]])
def test_cases_are_not_given_twice(command: str, extra: list[str]) -> None:
    result = CliRunner().invoke(app, [command, "--resume", "latest", *extra])
    assert isinstance(result.exception, UsageError)
    assert "--resume: takes its cases from the run" in str(result.exception)


@both
def test_without_a_run_a_scenario_is_needed(command: str) -> None:
    result = CliRunner().invoke(app, [command])
    assert isinstance(result.exception, UsageError)
    assert "scenario: missing" in str(result.exception)


@both
def test_a_run_of_another_gpu_is_resumed_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(real_run(), tmp_path)
    monkeypatch.setattr(backend, "activate", lambda device: Backend(simulated=False))
    before = (path / "rows.jsonl").read_bytes()
    result = CliRunner().invoke(app, [command, "--resume", str(path)])
    assert isinstance(result.exception, UsageError)
    assert f"{path.name} was begun on Fixture GPU; resume it there" in str(result.exception)
    assert (path / "rows.jsonl").read_bytes() == before


def test_the_place_of_a_simulated_run_is_named() -> None:
    error = resume.wrong_machine(simulated_run())
    assert "begun on the simulator of a machine without a GPU" in str(error)


def test_the_gpu_is_compared_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    run = real_run()
    for found, same in (
        (run.record.environment, True),
        (simulated_run().record.environment, False),
    ):
        monkeypatch.setattr(environment, "collect", lambda found=found: found)
        assert resume.on_the_same_gpu(run) is same
