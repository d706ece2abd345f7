"""Traces for Perfetto, from the real exports of nsys."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench.analysis.frame import frame
from gspn2bench.app import app
from gspn2bench.errors import UsageError
from gspn2bench.records.store import read_profiles, read_run
from gspn2bench.report.html.data import payload

from ..helpers.profile_fixtures import csv, fixture_run, ingest, save
from ..helpers.real_exports import DATA, real


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The real run of figure 3 with both of its profiles."""
    target = tmp_path / "run"
    shutil.copytree(DATA / "run-fig3", target)
    for name in ("graph-r01-fig3", "graph-r07-fig3"):
        done = ingest(real(name), target)
        assert done.exit_code == 0, done.output
    return target


def invoke(*arguments: str | Path):
    return CliRunner().invoke(app, ["trace", *map(str, arguments)])


def test_a_trace_has_every_launch_of_both_rungs(tmp_path, folder):
    file = tmp_path / "trace.json"
    done = invoke(folder, "-o", file)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{file}\n"
    document = json.loads(file.read_text())
    assert document["otherData"] == {"gspn2bench_run": "fig3-20261125T104218Z-5c8271"}
    events = document["traceEvents"]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert sorted(names) == [
        "nsys 2023.4.4.54, graph-r01-fig3.sqlite",
        "nsys 2023.4.4.54, graph-r07-fig3.sqlite",
        "r01 N16 C8 1024x1024 float32 forward graph, launches: 1,024",
        "r07 N16 C8 1024x1024 float32 forward graph, launches: 1",
    ]
    launches = [event for event in events if event["ph"] == "X"]
    slivers = [event for event in launches if event["name"] == "r01_line_launch_forward"]
    (bar,) = [event for event in launches if event["name"] == "r07_gspn2_forward"]
    assert len(slivers) == 1024
    assert {event["cat"] for event in launches} == {"kernel"}
    assert len({(event["pid"], event["tid"]) for event in slivers}) == 1
    assert bar["pid"] != slivers[0]["pid"]
    assert (bar["ts"], bar["dur"]) == (0, 1082.16)
    assert slivers[0]["ts"] == 0
    assert sum(event["dur"] for event in slivers) == pytest.approx(36_458.863)
    end = slivers[-1]["ts"] + slivers[-1]["dur"]
    assert end == pytest.approx(36_738.783)
    starts = [event["ts"] for event in slivers]
    assert starts == sorted(starts)


def test_the_trace_is_the_timeline_of_the_report(tmp_path, folder):
    invoke(folder, "-o", tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    times = [(event["ts"], event["dur"]) for event in events if event["ph"] == "X"]
    run = read_run(folder)
    profiles = [(run.record.run_id, each) for each in read_profiles(folder)]
    trials = payload([run], frame([run]), profiles, [], [])
    shown = [
        pair
        for trial in trials["trials"]
        for pair in zip(trial["starts"], trial["durations"], strict=True)
    ]
    assert len(shown) == 1025
    assert times == [pytest.approx(pair, rel=1e-5) for pair in shown]


def test_a_trace_of_the_same_run_is_replaced_and_no_other_file(tmp_path, folder):
    file = tmp_path / "trace.json"
    for _ in range(2):
        assert invoke(folder, "-o", file).exit_code == 0
    file.write_text("mine")
    done = invoke(folder, "-o", file)
    assert isinstance(done.exception, UsageError)
    assert "exists and is not a report of fig3-20261125T104218Z-5c8271" in str(done.exception)
    assert file.read_text() == "mine"


def test_the_default_file_and_the_json(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "reports/fig3-20261125T104218Z-5c8271.trace.json"
    assert invoke(folder, "--quiet").output == f"{name}\n"
    assert json.loads(invoke(folder, "--json").stdout)["files"] == [name]
    assert Path(name).is_file()


@pytest.mark.parametrize("profiled", [False, True])
def test_a_run_without_a_timeline_says_how_to_get_one(tmp_path, profiled):
    target = save(tmp_path / "run", fixture_run())
    if profiled:
        assert ingest(csv(tmp_path / "a.csv", 4), target).exit_code == 0
    done = invoke(target, "-o", tmp_path / "trace.json")
    assert isinstance(done.exception, UsageError)
    message = "no profile with a timeline"
    assert message in str(done.exception)
    assert ("one by one" in str(done.exception)) == profiled
    assert "gspn2bench ingest" in str(done.exception)
    assert not (tmp_path / "trace.json").exists()
