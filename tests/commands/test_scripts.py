"""Commands as a script meets them: one JSON document, or one line; nothing else on stdout."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gspn2bench.app import app
from gspn2bench.records.store import Run, read_run

from ..helpers.profile_fixtures import export, fixture_run, kernels
from ..helpers.report_fixtures import NO_GATE, record, row, save, timed

ROOT: Any = typer.main.get_command(app)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def options(command: str) -> set[str]:
    return {option for parameter in ROOT.commands[command].params for option in parameter.opts}


@pytest.mark.parametrize("command", ROOT.commands)
def test_every_command_can_be_quiet_and_speak_json(command: str) -> None:
    assert {"--quiet", "-q", "--json"} <= options(command)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two runs: r01 as before, r03 half as fast, r07 with two samples, r08 lost."""
    steady = [1 + 0.001 * (number % 5) for number in range(40)]

    def rows(slow: float, *last: Any) -> Run:
        return Run(
            tmp_path,
            record(run_id=f"run-{slow}"),
            (
                timed(1.002, samples_ms=steady),
                timed(slow, rung="r03", samples_ms=[slow * time for time in steady]),
                timed(1.0, rung="r07", samples_ms=[1.0, 1.0]),
                *last,
            ),
        )

    lost = row(rung="r08", status="oom", reason="needs 150 GB", **NO_GATE)
    base = rows(1, timed(1.0, rung="r08", samples_ms=steady))
    return [str(save(run, tmp_path)) for run in (base, rows(2, lost))]


def test_compare(runs: list[str]) -> None:
    done = invoke("compare", *runs, "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == said["exit_code"] == 1
    assert said["verdicts"] == {"SAME": 1, "FASTER": 0, "SLOWER": 1, "AMBIGUOUS": 1, "CLOCK": 0}
    assert (said["base"], said["new"], said["threshold"]) == ("run-1", "run-2", 0.03)
    same, slower, few, lost = said["pairs"]
    assert slower["rung"] == "r03"
    assert slower["ratio"] == pytest.approx(2)
    assert slower["ratio_low"] < 2 < slower["ratio_high"]
    assert slower["new_ms"] == pytest.approx(2 * slower["base_ms"])
    assert few["verdict"] == "AMBIGUOUS"
    assert few["ratio_low"] is None
    assert lost["verdict"] is lost["ratio"] is None
    assert (lost["lost"], lost["base_lacks"]) == (True, "")
    assert lost["new_lacks"] == "oom: needs 150 GB"
    assert (same["lost"], same["verdict"]) == (False, "SAME")

    done = invoke("compare", *runs, "--quiet")
    assert done.exit_code == 1
    assert done.stdout == (
        "3 rows compared, threshold 3 %: 1 SAME, 1 SLOWER, 1 AMBIGUOUS, 1 lost.\n"
    )
    done = invoke("compare", runs[0], runs[0], "--strict", "--json")
    assert done.exit_code == json.loads(done.stdout)["exit_code"] == 4


def test_ingest(tmp_path: Path) -> None:
    for way in ("--json", "--quiet"):
        (folder := tmp_path / way).mkdir()
        target = save(fixture_run(), folder)
        file = export(folder / "r01.sqlite", kernels(1024, calls=3))
        done = invoke("ingest", str(file), str(target), way)
        assert done.exit_code == 0, done.output
        (added,) = target.glob("profile-*.json")
        if way == "--quiet":
            assert done.stdout == f"{added}\n"
            continue
        said = json.loads(done.stdout)
        assert (said["run"], said["path"]) == (fixture_run().record.run_id, str(added))
        (trial,) = said["profile"]["trials"]
        assert trial["launches"] == 1024
        assert "timeline" not in trial
        assert trial.items() <= json.loads(added.read_text())["trials"][0].items()


def test_sweep_and_its_dry_run(tmp_path: Path) -> None:
    narrow = ["sweep", "quick", "--rung", "r06,r07", "-a", "batch=1", "-a", "size=[3,5]"]
    said = json.loads(invoke(*narrow, "--dry-run", "--json").stdout)
    assert said["rungs"] == ["r06", "r07"]
    assert said["bytes"] == sum(case["bytes"] for case in said["cases"]) > 0
    assert said["cases"][0]["case"] == "N1 C2 3x3 float32"
    assert all(case["skipped_by"] == ["r06"] for case in said["cases"])
    short = invoke(*narrow, "--dry-run", "--quiet").stdout
    assert short.startswith(f"{said['bytes']:,} bytes in total")
    assert short.count("\n") == 1

    done = invoke(*narrow, "--results", str(tmp_path), "--device", "sim", "--json")
    ended = json.loads(done.stdout)
    (folder,) = tmp_path.iterdir()
    assert ended == {
        "run": folder.name,
        "path": str(folder),
        "counts": {"ok": len(said["cases"]), "skipped": len(said["cases"])},
        "exit_code": done.exit_code,
    }
    assert done.exit_code == 0
    assert len(read_run(folder).rows) == 2 * len(said["cases"])
    assert "skipped" in done.stderr


def test_profile_prints_its_commands_word_by_word() -> None:
    arguments = ["profile", "quick", "--rung", "r07", "-a", "size=[8,16]", "--dry-run"]
    said = json.loads(invoke(*arguments, "--json").stdout)
    assert said["folder"] == "profiles/quick-nsys"
    assert said["commands"]
    assert [shlex.join(one) for one in said["commands"]] == invoke(*arguments).stdout.splitlines()


def test_no_colour_reaches_a_pipe(runs: list[str]) -> None:
    for arguments in (["show", runs[0]], ["compare", *runs], ["doctor"], ["list", "scenarios"]):
        assert "\x1b" not in invoke(*arguments).stdout
