"""Sweeps end to end in the simulator: recorded rows, failures, and resumed runs."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from gspn2bench import registry
from gspn2bench.app import app
from gspn2bench.cases.scenario import Case, load
from gspn2bench.errors import UsageError
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.problem import ScanProblem
from gspn2bench.records.schema import Row
from gspn2bench.records.store import Run, RunWriter, read_run
from gspn2bench.run import interleave, sweep, trial
from gspn2bench.run import worker as worker_module
from gspn2bench.system import backend

pytestmark = pytest.mark.skipif(not SIMULATED, reason="test_gpu.py tests rows on a GPU")

CASE = Case(1, 2, 3, 4)
SETTINGS = trial.Settings("planted")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def sweep_quick(results: Path, *arguments: str) -> tuple[Result, Run]:
    result = invoke("sweep", "quick", "--results", str(results), *arguments)
    (folder,) = results.iterdir()
    return result, read_run(folder)


def test_a_sweep_without_a_gpu_checks_correctness_and_launches(tmp_path: Path) -> None:
    result, run = sweep_quick(tmp_path, "-a", "batch=1", "-a", "size=[3,5]")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(run.path)
    assert run.record.simulated
    assert run.record.simulated_reason
    assert run.record.finished_utc is not None
    assert run.record.copy_gbps is None
    assert [row.rung for row in run.rows[:2]] == ["r01", "r07"]
    for row in run.rows:
        assert row.status == "ok"
        assert row.simulated
        assert row.latency_ms is None
        assert row.samples_ms == ()
        assert row.launches_observed == row.launches_expected
        assert row.gate_error is not None
        assert row.gate_error <= (row.gate_tolerance or 0)
        problem = ScanProblem(1, row.channels, row.height, row.width)
        assert row.bytes_model == problem.compulsory_bytes
    assert {row.launches_observed for row in run.rows if row.rung == "r01"} == {3, 5}
    assert {row.launches_observed for row in run.rows if row.rung == "r07"} == {1}


def test_the_rows_of_two_sweeps_agree(tmp_path: Path) -> None:
    narrow = ("-a", "batch=1", "-a", "size=3", "--rung", "r07")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, first = sweep_quick(tmp_path / "a", *narrow)
    _, second = sweep_quick(tmp_path / "b", *narrow)
    assert first.rows == second.rows


NAMED = """
title = "t"
description = "d"
source = "s"
rungs = ["r01", "r07"]
base = "r07"

[axes]
batch = 1
channels = 1
size = 2
"""


def test_a_run_records_the_base_of_its_scenario_and_keeps_it_when_resumed(tmp_path: Path) -> None:
    file = tmp_path / "named.toml"
    file.write_text(NAMED)
    assert invoke("sweep", str(file), "--results", str(tmp_path / "a")).exit_code == 0
    (folder,) = (tmp_path / "a").iterdir()
    run = read_run(folder)
    assert run.record.base == "r07"
    rows = folder / "rows.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    assert invoke("sweep", "--resume", str(folder)).exit_code == 0
    resumed = read_run(folder)
    assert len(resumed.rows) == len(run.rows)
    assert (resumed.record.base, resumed.record.plan) == ("r07", run.record.plan)


@pytest.mark.parametrize(
    ("line", "option", "timings"),
    [
        ("", (), ("eager", "graph", "device")),
        ("timing = ['eager', 'graph']\n", (), ("eager", "graph")),
        ("timing = ['eager', 'graph']\n", ("--timing", "device"), ("device",)),
    ],
)
def test_a_run_measures_the_timings_of_its_scenario_unless_given_others(
    line: str, option: tuple[str, ...], timings: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "named.toml"
    file.write_text(line + NAMED)
    results = tmp_path / "results"
    assert invoke("sweep", str(file), "--results", str(results), *option).exit_code == 0
    (folder,) = results.iterdir()
    run = read_run(folder)
    assert run.record.plan
    assert run.record.plan.timings == timings


def test_a_run_records_the_ids_of_its_rungs_and_no_base_that_is_not_run(tmp_path: Path) -> None:
    file, rung = tmp_path / "named.toml", tmp_path / "file.py"
    file.write_text(NAMED)
    rung.write_text(
        "from dataclasses import replace\n"
        "from gspn2bench.kernels.ladder import LADDER\n"
        "RUNG = replace(LADDER['r07'], id='mine')\n"
    )
    todo = sweep.Sweep((CASE,), (str(rung), "r01"), SETTINGS, 1.0)
    with sweep.create(tmp_path, load(str(file)), todo, backend.activate("sim"), []) as writer:
        record = read_run(writer.path).record
    assert record.base is None
    assert record.plan
    assert record.plan.rungs == (str(rung), "r01")
    assert record.plan.ids == ("mine", "r01")


def test_a_dry_run_lists_cases_and_bytes_and_writes_nothing(tmp_path: Path) -> None:
    result = invoke(
        "sweep", "fig3", "--dry-run", "-a", "size=[256,512]", "-a", "channels[pow2]=[0:3]",
        "-a", "batch=[1:9:4]", "-a", "weights=channel", "-a", "phase=forward",
        "--rung", "r01,r07", "--results", str(tmp_path / "none"),
    )  # fmt: skip
    assert result.exit_code == 0
    assert "24 cases" in result.stdout
    assert "N9 C8 512x512" in result.stdout
    assert f"{6 * 4 * 9 * 8 * 512 * 512:,}" in result.stdout
    assert not (tmp_path / "none").exists()


def test_a_case_too_large_for_memory_is_a_row_and_the_next_case_runs(tmp_path: Path) -> None:
    result, run = sweep_quick(
        tmp_path, "--rung", "r07", "-a", "batch=[2000000000,1]", "-a", "channels=1", "-a", "size=3"
    )
    assert result.exit_code == 3
    assert [row.status for row in run.rows] == ["oom", "ok"]
    assert "memory: needs 432.5" in (run.rows[0].reason or "")
    assert "oom: r07 N2000000000" in result.stderr


def test_a_case_too_large_for_the_simulator_is_skipped_with_a_reason(tmp_path: Path) -> None:
    result, run = sweep_quick(tmp_path, "--rung", "r07", "-a", "size=256")
    assert result.exit_code == 3  # no row is ok
    assert {row.status for row in run.rows} == {"skipped"}
    assert "elements, limit 32768; needs a GPU" in (run.rows[0].reason or "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figg3"], ["figg3", "did you mean", "fig3"]),
        (["quick", "--rung", "r7"], ["rung", "r7", "did you mean"]),
        (["quick", "--rung", "r01,,r07"], ["--rung", "empty name", "r01,,r07"]),
        (["quick", "--rung", "r01,r01"], ["--rung", "r01", "twice"]),
        (["quick", "-a", "chanels=[1]"], ["chanels", "did you mean", "channels"]),
        (["quick", "-a", "batch=[]"], ["batch=[]"]),
        (["quick", "-a", "batch=[1,1]"], ["batch=[1,1]"]),
        (["quick", "-a", "batch=-4"], ["batch=-4"]),
        (["quick", "-a", "batch[pow2]=[0:99]"], ["batch[pow2]=[0:99]"]),
        (["quick", "-a", "size=99999999999"], ["size=99999999999"]),
        (["quick", "--timing", "wall"], ["wall", "eager"]),
        (["quick", "--timing", "eager,wall"], ["wall", "device"]),
        (["quick", "--timing", "eager,eager"], ["--timing", "eager", "twice"]),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    result = invoke("sweep", *arguments, "--results", str(results))
    assert isinstance(result.exception, UsageError)  # app.main prints it and exits with 2
    for word in words:
        assert word in str(result.exception)
    assert not results.exists()


@pytest.mark.parametrize(("option", "word"), [("--l2", "tepid"), ("--device", "gpu")])
def test_an_unknown_choice_is_refused_before_any_work(
    option: str, word: str, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    result = invoke("sweep", "quick", option, word, "--results", str(results))
    assert result.exit_code == 2
    assert f"'{option}'" in result.output
    assert f"'{word}' is not one of" in result.output
    assert not results.exists()


def test_cuda_without_a_gpu_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "cuda_unavailable_reason", lambda: "the driver is asleep")
    results = tmp_path / "results"
    result = invoke("sweep", "quick", "--device", "cuda", "--results", str(results))
    assert isinstance(result.exception, UsageError)
    for words in ("--device", "can't be used: the driver is asleep", "doctor"):
        assert words in str(result.exception)
    assert not results.exists()


def test_a_results_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    result = invoke("sweep", "quick", "--results", str(file))
    assert isinstance(result.exception, UsageError)
    assert "--results" in str(result.exception)


def test_an_interrupted_sweep_keeps_its_rows_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, jobs = worker_module.Worker.run, []

    def interrupted(
        worker: worker_module.Worker,
        job: worker_module.Job,
        limit_s: float,
        observer: worker_module.RungObserver,
    ) -> Iterator[Row]:
        jobs.append(job)
        if len(jobs) == 3:
            raise KeyboardInterrupt
        return real(worker, job, limit_s, observer)

    monkeypatch.setattr(worker_module.Worker, "run", interrupted)
    result, run = sweep_quick(tmp_path / "a", "--rung", "r07")
    assert result.exit_code == 130
    assert len(run.rows) == 2
    assert run.record.finished_utc is None
    assert f"--resume {run.path}" in result.stderr

    monkeypatch.undo()
    with (run.path / "rows.jsonl").open("a") as rows:
        rows.write('{"scenario": "quick", "ca')  # a process killed while writing leaves this
    resumed = invoke("sweep", "--resume", str(run.path))
    assert resumed.exit_code == 0
    assert "the last line was torn" in resumed.stderr
    _, uninterrupted = sweep_quick(tmp_path / "b", "--rung", "r07")
    complete = read_run(run.path)
    assert complete.rows == uninterrupted.rows
    assert complete.rows[:2] == run.rows
    assert complete.record.finished_utc is not None
    (torn,) = run.path.glob("rows.jsonl.torn-*")
    assert torn.read_text() == '{"scenario": "quick", "ca'


def test_a_full_disk_ends_the_sweep_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    result, run = sweep_quick(tmp_path, "--rung", "r07")
    assert result.exit_code == 3
    assert "can't be written: No space left on device" in result.stderr
    assert len(run.rows) >= 2
    monkeypatch.undo()
    assert invoke("sweep", "--resume", str(run.path)).exit_code == 0
    assert len(read_run(run.path).rows) == 4


def test_a_resumed_run_keeps_its_ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = ("--rung", "r07", "-a", "batch=1", "-a", "channels=1", "-a", "size=2")
    _, run = sweep_quick(tmp_path, *narrow)
    steps = {"fma_us": 0.1, "launch_us": 1.5, "shuffle_step_us": 0.2, "step_us": 0.3}
    measured = {"copy_samples_gbps": (4000.0,), **steps, "l2_cold_ms": 2.0, "l2_warm_ms": 1.0}
    (run.path / "rows.jsonl").write_text("")
    jobs: list[interleave.CaseJob] = []

    def refuse(
        worker: worker_module.Worker,
        job: interleave.CaseJob,
        limit_s: float,
        observer: worker_module.RungObserver,
    ) -> Iterator[Row]:
        jobs.append(job)
        return iter(())

    monkeypatch.setattr(worker_module.Worker, "run", refuse)
    with RunWriter(run.path, run.record, resume=True) as writer:
        writer.update(**measured)
        list(sweep.run(writer, sweep.planned(writer.record)))
    assert jobs[0].ceilings == Ceilings(**measured)  # type: ignore[arg-type]
    assert jobs[0].ceilings.cold_is_cold


def test_the_observer_is_called_when_a_rung_starts(tmp_path: Path) -> None:
    narrow = ("--rung", "r04,r07", "-a", "batch=1", "-a", "channels=1", "-a", "size=2")
    _, run = sweep_quick(tmp_path, *narrow)
    (run.path / "rows.jsonl").write_text("")
    started: list[str] = []
    with RunWriter(run.path, run.record, resume=True) as writer:
        trials = sweep.run(writer, sweep.planned(writer.record), observer=started.append)
        assert [trial.rung.id for trial in trials] == ["r04", "r07"]
    assert started == ["r04", "r07"]


def test_resuming_a_complete_run_changes_nothing(tmp_path: Path) -> None:
    _, run = sweep_quick(tmp_path, "--rung", "r07", "-a", "batch=1", "-a", "size=2")
    before = (run.path / "rows.jsonl").read_bytes()
    assert invoke("sweep", "--resume", str(run.path)).exit_code == 0
    assert (run.path / "rows.jsonl").read_bytes() == before


def test_two_writers_of_one_run_are_refused(tmp_path: Path) -> None:
    _, run = sweep_quick(tmp_path, "--rung", "r07", "-a", "batch=1", "-a", "size=2")
    with RunWriter(run.path, run.record, resume=True):
        result = invoke("sweep", "--resume", str(run.path))
    assert isinstance(result.exception, UsageError)
    assert "being written by another process" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [["--resume", "latest", "quick"], ["--resume", "latest", "--rung", "r07"], []],
)
def test_a_resumed_sweep_accepts_no_scenario_or_rungs(arguments: list[str]) -> None:
    assert isinstance(invoke("sweep", *arguments).exception, UsageError)


def planted(call: Call, *, launches: int = 1) -> Rung:
    """A rung with this call instead of a scan."""
    return replace(
        LADDER["r07"], id="bad", forward=lambda problem, operands: call,
        launches=lambda problem: launches,
    )  # fmt: skip


def only_row(rung: Rung) -> Row:
    (row,) = interleave.measure_rung(CASE, rung, SETTINGS, Ceilings())
    return row


def test_a_rung_that_writes_nothing_is_incorrect() -> None:
    row = only_row(planted(lambda: None))
    assert row.status == "incorrect"
    assert row.reason == "h: 24 of 24 elements are NaN or infinite"
    assert row.latency_ms is None


def test_a_rung_that_is_slightly_wrong_is_incorrect() -> None:
    def bind(problem: ScanProblem, operands: Operands) -> Call:
        correct = LADDER["r07"].forward(problem, operands)

        def call() -> None:
            correct()
            operands.h[0, 1, 2, 3] *= 1.001

        return call

    row = only_row(replace(LADDER["r07"], id="bad", forward=bind))
    assert row.status == "incorrect"
    assert row.gate_error is not None
    assert row.gate_error > (row.gate_tolerance or 0)


@pytest.mark.parametrize("name", ["x", "lam", "w"])
def test_a_rung_that_writes_to_its_inputs_is_incorrect(name: str) -> None:
    """The reference would read the modified input and agree."""

    def bind(problem: ScanProblem, operands: Operands) -> Call:
        correct = LADDER["r07"].forward(problem, operands)

        def call() -> None:
            getattr(operands, name).mul_(0.5)
            correct()

        return call

    row = only_row(replace(LADDER["r07"], id="bad", forward=bind))
    assert (row.status, row.reason) == ("incorrect", f"{name}: the call changed this input")


def test_a_rung_with_launches_that_differ_from_those_declared_is_invalid() -> None:
    row = only_row(replace(LADDER["r07"], launches=lambda problem: 2))
    assert row.status == "invalid"
    assert row.reason == "launches: 1 observed, 2 declared"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("illegal address\nmore"), "failed", "RuntimeError: illegal address"),
        (torch.OutOfMemoryError("none left"), "oom", "memory: none left"),
        (AssertionError(), "failed", "AssertionError: no message"),
    ],
)
def test_an_error_of_a_rung_is_a_row(error: Exception, status: str, reason: str) -> None:
    def call() -> None:
        raise error

    row = only_row(planted(call))
    assert (row.status, row.reason) == (status, reason)


def test_a_problem_that_a_rung_cannot_run_is_a_skipped_row_with_a_reason() -> None:
    (row,) = interleave.measure_rung(
        replace(CASE, weights="shared"), LADDER["r01"], SETTINGS, Ceilings()
    )
    assert row.status == "skipped"
    assert row.reason == LADDER["r01"].skip_reason(CASE_SHARED)


CASE_SHARED = ScanProblem(1, 2, 3, 4, direction="right", weights="shared")


HEAD = """
import os, signal, time
from dataclasses import replace
from gspn2bench.kernels.ladder import LADDER

def bind(problem, operands):
    correct = LADDER["r07"].forward(problem, operands)
    def call():
        {body}
    return call

RUNG = replace(LADDER["r07"], id="mine", forward=bind)
"""
FAULTS = {
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", "failed", "signal SIGKILL"),
    "exit": ("os._exit(7)", "failed", "exit code 7"),
    "hang": ("time.sleep(3600)", "timeout", "time limit: over 5 s"),
    "spin": ("while True: pass", "timeout", "time limit: over 5 s"),
    "interrupt": ("os.kill(os.getpid(), signal.SIGINT); correct()", "ok", None),
    "writes nothing": ("pass", "incorrect", "NaN or infinite"),
    "writes NaN": ("correct(); operands.h.fill_(float('nan'))", "incorrect", "4 of 4 elements are"),
    "launches twice": ("correct(); correct()", "invalid", "launches: 2 observed, 1 declared"),
    "writes out of bounds": ("operands.h.view(-1)[10**6] = 0", "failed", "IndexError"),
    "reads out of bounds": ("operands.x.view(-1)[10**6].item()", "failed", "IndexError"),
    "stale after the first call": (
        "globals().setdefault('first', correct()) if 'first' not in globals() else 0",
        "incorrect",
        "on changed inputs, h: 4 of 4 elements are NaN",
    ),
    "correct": ("correct()", "ok", None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_any_fault_of_a_users_rung_the_next_one_is_measured(
    name: str, tmp_path: Path
) -> None:
    body, status, reason = FAULTS[name]
    file = tmp_path / "mine.py"
    file.write_text(HEAD.format(body=body))
    limit = ("--limit", "5")
    narrow = ("-a", "batch=1", "-a", "channels=1", "-a", "size=2")
    result, run = sweep_quick(tmp_path / "results", "--rung", f"{file},r07", *narrow, *limit)
    faulty, next_row = run.rows
    assert (faulty.rung, faulty.status) == ("mine", status)
    assert (reason or "") in (faulty.reason or "")
    assert (next_row.rung, next_row.status) == ("r07", "ok")
    assert result.exit_code == (0 if status == "ok" else 3)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_sweep_leaves_its_rows_and_no_worker_and_is_resumed(
    tmp_path: Path,
) -> None:
    file, pid, results = tmp_path / "mine.py", tmp_path / "pid", tmp_path / "results"
    hang = f"open({str(pid)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(3600)"
    file.write_text(HEAD.format(body=f"if problem.height == 3: {hang}\n        correct()"))
    words = ["sweep", "quick", "--rung", str(file), "-a", "batch=1", "-a", "channels=1"]
    words += ["-a", "size=[2,3]", "--results", str(results)]
    with subprocess.Popen([sys.executable, "-P", "-m", "gspn2bench", *words]) as process:
        wait_for(lambda: pid.exists() and pid.read_text().endswith("."))
        worker = int(pid.read_text().rstrip("."))
        assert running(worker)
        process.kill()
    wait_for(lambda: not running(worker))
    (folder,) = results.iterdir()
    killed = read_run(folder)
    assert [row.height for row in killed.rows] == [2]
    assert killed.record.finished_utc is None

    file.write_text(HEAD.format(body="correct()"))
    assert invoke("sweep", "--resume", str(folder)).exit_code == 0
    complete = read_run(folder)
    assert [(row.height, row.status) for row in complete.rows] == [(2, "ok"), (3, "ok")]
    assert complete.rows[:1] == killed.rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUNG = 3", ["mine.py", "does not define RUNG"]),
        ("x = 1", ["mine.py", "does not define RUNG"]),
        ("1 / 0", ["mine.py", "ZeroDivisionError"]),
        ("from gspn2bench.kernels.r07_gspn2 import RUNG", ["mine.py", "r07", "already"]),
        *(
            (
                f"{HEAD.format(body='correct()')}\nRUNG = replace(RUNG, id={name!r})",
                ["mine.py", "id: "],
            )
            for name in (
                "",
                "my rung",
                "my:rung",
                'my"rung',
                "my'rung",
                "my\nrung",
                "my\x1brung",
                3,
            )
        ),
    ],
)
def test_a_users_file_without_a_valid_rung_is_refused(
    text: str, words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    result = invoke("sweep", "quick", "--rung", str(file), "--results", str(tmp_path / "results"))
    assert isinstance(result.exception, UsageError)
    assert all(word in str(result.exception) for word in words)
    assert not (tmp_path / "results").exists()


def test_specs_keep_their_order_without_duplicates() -> None:
    assert registry.specs(["r07", "r01", "r07"]) == ["r07", "r01"]
