"""``gspn2bench traffic`` end to end, in the simulator and with a fake ncu."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gspn2bench.app import app
from gspn2bench.cases.scenario import Case, load
from gspn2bench.errors import UsageError
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.records.schema import Row
from gspn2bench.records.store import Run, read_run
from gspn2bench.run import sweep
from gspn2bench.traffic import counters
from gspn2bench.traffic import rows as traffic_rows
from gspn2bench.traffic import run as traffic_run
from gspn2bench.traffic.rows import TrafficSweep

from ..helpers.pretended_ncu import ONE, fake_ncu, playing_ncu, raw_page

simulated = pytest.mark.skipif(not SIMULATED, reason="the tracer needs the simulator")

NARROW = ("-a", "batch=1", "-a", "channels=2", "-a", "size=8")


def invoke(results: Path, *arguments: str) -> tuple[Result, Run]:
    command = ["traffic", "quick", "--results", str(results), *arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    (folder,) = results.iterdir()
    return result, read_run(folder)


@simulated
def test_traced_rows_have_sectors_and_no_latency(tmp_path: Path) -> None:
    result, run = invoke(tmp_path, *NARROW, "--tool", "trace", "-a", "phase=[forward,backward]")
    assert result.exit_code == 0, result.output
    assert [(row.rung, row.phase) for row in run.rows] == [
        ("r01", "forward"),
        ("r07", "forward"),
        ("r01", "backward"),
        ("r07", "backward"),
    ]
    for row in run.rows:
        assert row.status == "ok"
        assert row.simulated
        assert row.latency_ms is None
        assert row.bytes_dram is None
        assert row.launches_observed == row.launches_expected
        assert row.bytes_traced == traffic_run.sector_bytes(row)
    r01, r07 = run.rows[:2]
    # 2 slices of 8 rows of 32 bytes: one sector per row for each of 5 inputs and the output
    assert (r07.sectors_load, r07.sectors_store) == (80, 16)
    assert (r07.requests_load, r07.requests_store) == (80, 16)
    assert r07.bytes_traced == r07.bytes_touched == r07.bytes_model == 3072
    assert traffic_run.amplification(r07) == traffic_run.sectors_per_request(r07) == 1
    # each column: 16 lanes, one sector per lane. 7 columns follow another one and read its h:
    # 16 lanes the middle, 14 the left and 14 the right neighbour
    assert (r01.sectors_load, r01.requests_load) == (8 * 5 * 16 + 7 * (16 + 14 + 14), 8 * 5 + 7 * 3)
    assert (r01.sectors_store, r01.requests_store) == (8 * 16, 8)
    assert r01.bytes_reread == 7 * (14 + 14) * 4
    assert run.record.simulated


def test_the_base_of_the_scenario_is_recorded(tmp_path: Path) -> None:
    for rungs, base in ((("r07_unfused", "r07"), "r07_unfused"), (("r07",), None)):
        plan = TrafficSweep("normalize", "cold", (), rungs, "trace", 0)
        with traffic_run.create(tmp_path, load("normalize"), plan, []) as writer:
            assert read_run(writer.path).record.base == base


@simulated
def test_without_ncu_the_hardware_rows_have_a_reason_and_the_trace_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(counters.executables, "find_ncu", lambda: None)
    result, run = invoke(tmp_path, *NARROW, "--rung", "r07")
    assert result.exit_code == 0
    assert [(row.simulated, row.status) for row in run.rows] == [
        (True, "ok"),
        (False, "skipped"),
        (False, "skipped"),
    ]
    assert "unavailable" in result.stdout
    assert "install Nsight Compute" in result.stderr
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    assert "…" not in result.stdout
    assert not run.record.simulated


@simulated
def test_a_case_that_cannot_be_traced_is_a_row_with_a_reason(tmp_path: Path) -> None:
    arguments = ("-a", "size=91", "-a", "batch=1", "-a", "channels=1", "--tool", "trace")
    result, run = invoke(tmp_path, *arguments, "--rung", "r06,r07")
    assert result.exit_code == 3
    r06, r07 = run.rows
    assert (r06.status, r07.status) == ("skipped", "skipped")
    assert "weights" in (r06.reason or "")
    assert r07.reason == "tracer: 8281 elements, limit 8192"


@simulated
@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"forward": lambda p, o: lambda: None}, "incorrect", "NaN"),
        ({"launches": lambda p: 2}, "invalid", "launches: 1 observed, 2 declared"),
        ({"forward": lambda p, o: lambda: 1 / 0}, "failed", "ZeroDivisionError"),
    ],
)
def test_a_bad_rung_has_no_traffic(change: dict[str, Any], status: str, reason: str) -> None:
    from gspn2bench.kernels.ladder import LADDER

    bad = replace(LADDER["r07"], id="bad", **change)
    plan = TrafficSweep("quick", "cold", (), (), "trace", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic_rows.registry, "find", lambda reference: bad)
        row = traffic_rows.trace_rung(plan, Case(1, 2, 3, 4), "bad")
    assert row.status == status
    assert reason in (row.reason or "")
    assert row.bytes_traced is None
    assert row.sectors_load is None


def test_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    command = ["traffic", "quick", "--tool", "nvprof", "--results", str(tmp_path / "none")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "'nvprof' is not one of 'trace', 'ncu', 'all'" in " ".join(result.output.split())
    assert not (tmp_path / "none").exists()


@simulated
def test_hardware_rows_record_the_state_of_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu = fake_ncu(tmp_path, raw_page(ONE))
    monkeypatch.setattr(counters, "find", lambda: ncu)
    result, run = invoke(tmp_path / "results", *NARROW, "--tool", "ncu", "--rung", "r07")
    assert result.exit_code == 0, result.output
    assert [(row.l2, row.simulated, row.status) for row in run.rows] == [
        ("warm", False, "ok"),
        ("cold", False, "ok"),
    ]
    for row in run.rows:
        assert row.bytes_dram == 1536
        assert (row.sectors_load, row.sectors_store) == (3200, 320)
        assert (row.requests_load, row.requests_store) == (20, 10)
        assert (row.sectors_l2_read, row.sectors_l2_write) == (40, 30)
        assert row.bytes_traced is None
        assert row.latency_ms is None
    arguments, locale = json.loads((tmp_path / "heard").read_text())
    assert locale == "C"
    assert arguments[arguments.index("--cache-control") + 1] == "all"
    job = json.loads(arguments[-1])
    ((case, rung),) = job["trials"]
    assert (case["height"], rung) == (8, "r07")


@simulated
def test_launches_that_ncu_does_not_observe_make_the_row_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu = fake_ncu(tmp_path, raw_page(ONE))
    monkeypatch.setattr(counters, "find", lambda: ncu)
    result, run = invoke(tmp_path / "results", *NARROW, "--tool", "ncu", "--rung", "r01")
    assert result.exit_code == 3
    assert {row.reason for row in run.rows} == {"launches: 1 observed by ncu, 8 declared"}
    assert {row.bytes_dram for row in run.rows} == {None}


COUNTED = ("-a", "batch=1", "-a", "channels=2", "--tool", "ncu", "--rung")


@simulated
def test_the_cases_of_a_group_are_profiled_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch)
    arguments = (*COUNTED, "r03,r06,r07", "-a", "size=[8,9]")
    result, run = invoke(tmp_path / "results", *arguments)
    assert result.exit_code == 0, result.output
    assert (
        jobs.read_text().splitlines() == ["r03:8 r07:8 r03:9 r07:9"] * 2
    )  # r06 cannot run these cases
    written = 512
    assert [(row.rung, row.height, row.l2, row.bytes_dram) for row in run.rows] == [
        (rung, height, l2, read)
        for l2 in ("warm", "cold")
        for rung, height, read in (
            ("r06", 8, None),
            ("r06", 9, None),
            ("r03", 8, written),
            ("r07", 8, written + 1),
            ("r03", 9, written + 2),
            ("r07", 9, written + 3),
        )
    ]


@simulated
@pytest.mark.parametrize(
    ("most", "processes"),
    [
        (5, ["r03:2 r07:2 r03:3 r07:3"] * 2 + ["r03:4 r07:4"] * 2),
        (1, ["r03:2 r07:2"] * 2 + ["r03:3 r07:3"] * 2 + ["r03:4 r07:4"] * 2),
    ],
)
def test_a_group_is_bounded_but_has_all_rungs_of_a_case(
    most: int, processes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch)
    monkeypatch.setattr(traffic_run, "TRIALS", most)
    result, run = invoke(tmp_path / "results", *COUNTED, "r03,r07", "-a", "size=[2,3,4]")
    assert result.exit_code == 0, result.output
    assert jobs.read_text().splitlines() == processes
    assert len(run.rows) == 12


@simulated
def test_a_trial_that_crashes_its_process_does_not_affect_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch, fails="'r03:9' in trials")
    result, run = invoke(tmp_path / "results", *COUNTED, "r03,r07", "-a", "size=[8,9]")
    assert result.exit_code == 0, result.output
    assert (
        jobs.read_text().splitlines()
        == [
            "r03:8 r07:8 r03:9 r07:9",
            "r03:8 r07:8",
            "r03:9 r07:9",
            "r03:9",
            "r07:9",
        ]
        * 2
    )
    reason = (
        "hardware counters unavailable: ncu failed with exit code 1:"
        " CUDA error: an illegal memory access"
    )
    assert [(row.rung, row.height, row.status, row.reason) for row in run.rows] == [
        ("r03", 8, "ok", None),
        ("r07", 8, "ok", None),
        ("r03", 9, "skipped", reason),
        ("r07", 9, "ok", None),
    ] * 2


@simulated
def test_an_error_that_smaller_groups_cannot_avoid_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch, fails="print('ERR_NVGPUCTRPERM') is None")
    result, run = invoke(tmp_path / "results", *COUNTED, "r03,r07", "-a", "size=[8,9]")
    assert result.exit_code == 3
    assert jobs.read_text().splitlines() == ["r03:8 r07:8 r03:9 r07:9"] * 2
    assert len(run.rows) == 8
    assert all("SYS_ADMIN" in (row.reason or "") for row in run.rows)


@simulated
def test_resume_runs_the_missing_rows_of_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch)
    _, run = invoke(tmp_path / "results", *COUNTED, "r03,r07", "-a", "size=[8,9]")
    jobs.unlink()
    stored = run.path / "rows.jsonl"
    lines = stored.read_text().splitlines(keepends=True)
    del lines[6], lines[1], lines[0]  # r03:9 cold, both rungs on 8 warm
    stored.write_text("".join(lines))
    resumed = CliRunner().invoke(app, ["traffic", "--resume", str(run.path)])
    assert resumed.exit_code == 0, resumed.output
    assert "8 ok" in resumed.stderr
    assert jobs.read_text().splitlines() == ["r03:8 r07:8", "r03:9"]
    rows = read_run(run.path).rows
    assert [(row.rung, row.height, row.l2) for row in rows[5:]] == [
        ("r03", 8, "warm"),
        ("r07", 8, "warm"),
        ("r03", 9, "cold"),
    ]


@simulated
def test_a_trial_is_yielded_as_soon_as_its_rows_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, produced = traffic_run.WorkerSupervisor.run, []

    def recording(workers: traffic_run.WorkerSupervisor, *arguments: Any) -> Iterator[Row]:
        for row in original(workers, *arguments):
            produced.append(row)
            yield row

    monkeypatch.setattr(traffic_run.WorkerSupervisor, "run", recording)
    cases = (Case(1, 1, 2, 2), Case(1, 1, 3, 2))
    plan = TrafficSweep("quick", "cold", cases, ("r03", "r07"), "trace", 0)
    with traffic_run.create(tmp_path, load("quick"), plan, []) as writer:
        stored = writer.path / "rows.jsonl"
        yielded = []
        for rows in traffic_run.run(writer, plan):
            yielded += [(row.rung, row.height) for row in rows]
            assert len(yielded) == len(produced) == len(stored.read_text().splitlines())
    assert yielded == [("r03", 2), ("r07", 2), ("r03", 3), ("r07", 3)]


@simulated
def test_a_rung_that_kills_its_process_is_a_row_and_the_next_is_traced(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import os, signal\n"
        "from dataclasses import replace\n"
        "from gspn2bench.kernels.ladder import LADDER\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "RUNG = replace(LADDER['r07'], id='mine', forward=lambda problem, operands: kill)\n"
    )
    narrow = ("-a", "batch=1", "-a", "channels=1", "-a", "size=2", "--tool", "trace")
    result, run = invoke(tmp_path / "results", *narrow, "--rung", f"r03,{file},r07")
    assert result.exit_code == 3
    assert [(row.rung, row.status) for row in run.rows] == [
        ("r03", "ok"),
        ("mine", "failed"),
        ("r07", "ok"),
    ]
    assert run.rows[1].reason == "the worker process died: signal SIGKILL"


@simulated
def test_an_interrupted_run_keeps_its_rows_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playing_ncu(tmp_path, monkeypatch)
    measure, calls = counters.measure, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(counters, "measure", interrupted)
    narrow = ("-a", "batch=1", "-a", "channels=1", "-a", "size=2", "--rung", "r07")
    result, run = invoke(tmp_path / "results", *narrow)
    assert result.exit_code == 130
    assert f"gspn2bench traffic --resume {run.path}" in result.stderr
    assert [(row.simulated, row.l2) for row in run.rows] == [(True, "cold"), (False, "warm")]

    resumed = CliRunner().invoke(app, ["traffic", "--resume", str(run.path)])
    assert resumed.exit_code == 0, resumed.output
    complete = read_run(run.path)
    assert complete.rows[:2] == run.rows
    assert [(row.simulated, row.l2) for row in complete.rows[2:]] == [(False, "cold")]
    assert len(calls) == 3
    again = CliRunner().invoke(app, ["traffic", "--resume", str(run.path)])
    assert again.exit_code == 0
    assert read_run(run.path).rows == complete.rows
    with pytest.raises(UsageError, match="use gspn2bench traffic --resume"):
        sweep.planned(run.record)
