"""Attribution of failures, and the rungs that continue, with scripted workers."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.records.schema import Row
from gspn2bench.run import worker as worker_module
from gspn2bench.run.interleave import CaseJob, RungStarted
from gspn2bench.run.trial import Settings, unmeasured_rows
from gspn2bench.run.worker import (
    GpuLostError,
    TimeLimitError,
    Worker,
    WorkerDiedError,
    WorkerSupervisor,
    _JobDone,
)
from gspn2bench.system import executables

ROOT = Path(__file__).resolve().parents[2]
CASE = Case(1, 1, 2, 2)
RUNGS = ("r01", "r03", "r07")
JOB = CaseJob(CASE, tuple((name, Settings("scripted")) for name in RUNGS), Ceilings())
pytestmark = pytest.mark.skipif(not SIMULATED, reason="one row per rung, as in the simulator")


def row(rung: str) -> Row:
    from gspn2bench import registry

    settings = Settings("scripted", timings=("device",))
    (result,) = unmeasured_rows(
        CASE, registry.find(rung), settings, Ceilings(), "skipped", "scripted"
    )
    return result


class ScriptedWorker:
    """A worker that follows a script: rungs that start (r07), rows (R07) and a final error."""

    scripts: list[tuple[str, Exception | None]]
    jobs: list[tuple[str, ...]]

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        self.usable = True
        self.current_rung: str | None = None
        self.ceilings = known

    def run(
        self, job: CaseJob, limit_s: float, observer: worker_module.RungObserver
    ) -> Iterator[Row]:
        self.jobs.append(tuple(name for name, _ in job.rungs))
        self.current_rung = None
        words, error = self.scripts.pop(0)
        for word in words.split():
            if word.isupper():
                yield row(word.lower())
            else:
                self.current_rung = word
        if error:
            self.usable = False
            raise error

    def stop(self) -> None:
        self.usable = False


def run_scripts(
    monkeypatch: pytest.MonkeyPatch, *scripts: tuple[str, Exception | None]
) -> list[Any]:
    """Run the job with one script per worker call; returns rung and status of every row."""
    monkeypatch.setattr(ScriptedWorker, "scripts", list(scripts), raising=False)
    monkeypatch.setattr(ScriptedWorker, "jobs", [], raising=False)
    monkeypatch.setattr(worker_module, "Worker", ScriptedWorker)
    with WorkerSupervisor("scripted", Ceilings()) as workers:
        result = [(row.rung, row.status) for row in workers.run(JOB, 5.0)]
    assert not ScriptedWorker.scripts
    return result


def test_a_crash_is_attributed_to_the_running_rung_and_the_others_continue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = run_scripts(
        monkeypatch,
        ("r01 r03 R03 r07 r01 r07", WorkerDiedError("signal SIGSEGV")),
        ("r01 R01", None),
    )
    assert result == [("r03", "skipped"), ("r07", "failed"), ("r01", "skipped")]
    assert ScriptedWorker.jobs == [RUNGS, ("r01",)]


def test_a_rung_that_hangs_is_a_timeout_and_earlier_rows_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeout = TimeLimitError("over 5 s")
    result = run_scripts(monkeypatch, ("r01 R01 r03", timeout), ("r07", timeout))
    assert result == [("r01", "skipped"), ("r03", "timeout"), ("r07", "timeout")]


def test_a_job_that_ends_early_without_error_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_scripts(monkeypatch, ("r01 R01", None), ("r03 R03 r07 R07", None))
    assert [rung for rung, _ in result] == list(RUNGS)


def test_a_worker_that_returns_no_rows_does_not_loop_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = run_scripts(monkeypatch, ("r01", None), ("", None))
    assert result == [(name, "failed") for name in RUNGS]


def test_after_a_lost_gpu_the_remaining_rows_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_scripts(monkeypatch, ("r01 R01 r03", GpuLostError("fell off the bus")))
    assert result == [("r01", "skipped"), ("r03", "not_run"), ("r07", "not_run")]


class Pipe:
    """A pipe with delayed messages, which records the timeout of every poll."""

    def __init__(self, messages: list[tuple[float, object]]) -> None:
        self.messages = messages
        self.now = 100.0
        self.timeouts: list[float] = []

    def send(self, job: object) -> None:
        pass

    def poll(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        self.now += min(timeout, self.messages[0][0])
        return self.messages[0][0] <= timeout

    def recv(self) -> object:
        return self.messages.pop(0)[1]


def test_the_limit_applies_to_all_sample_blocks_of_a_rung_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe(
        [
            (0.0, RungStarted("r01")),
            (4.0, RungStarted("r03")),
            (3.0, RungStarted("r01")),
            (0.5, row("r01")),
            (0.25, RungStarted("r03")),
            (9.0, _JobDone(True)),
        ]
    )
    monkeypatch.setattr(worker_module.time, "monotonic", lambda: pipe.now)
    monkeypatch.setattr(Worker, "stop", lambda worker: None)
    worker = Worker.__new__(Worker)
    worker._pipe = pipe  # type: ignore[assignment]
    rows = worker.run(JOB, 5.0)
    assert next(rows).rung == "r01"
    with pytest.raises(TimeLimitError, match="over 5 s"):
        next(rows)
    assert worker.current_rung == "r03"
    # each rung has 5 s in total, minus the time it has already used
    assert pipe.timeouts == [5.0, 5.0, 5.0, 1.0, 0.5, 2.0]


@dataclass(frozen=True)
class AbortingTeardown:
    """A job after which the teardown of the worker aborts, as a library's destructor may."""

    def run(self) -> Iterator[Row]:
        atexit.register(os.abort)
        print("a line that is still in a buffer")
        yield row("r01")


@pytest.mark.parametrize("profiled", [False, True])
def test_a_worker_ends_without_teardown_unless_it_is_profiled(
    profiled: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])  # the worker imports this module
    if profiled:
        monkeypatch.setenv(executables.PROFILED, "nsys")
    worker = Worker("planted", Ceilings())
    assert [row.rung for row in worker.run(AbortingTeardown(), 60.0)] == ["r01"]  # type: ignore[arg-type]
    worker._pipe.close()
    worker._process.join(60.0)
    assert worker._process.exitcode == (-signal.SIGABRT if profiled else 0)
    assert capfd.readouterr().out == "a line that is still in a buffer\n"


@pytest.mark.parametrize("healthy", [True, False])
def test_a_worker_whose_context_is_broken_takes_no_other_job(
    healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Worker] = []
    stopped: list[Worker] = []

    def start(worker: Worker, scenario: str, known: Ceilings | None = None) -> None:
        started.append(worker)
        worker._pipe = Pipe(  # type: ignore[assignment]
            [
                *((0.0, message) for name in RUNGS for message in (RungStarted(name), row(name))),
                (0.0, _JobDone(healthy or len(started) > 1)),
                *((0.0, message) for name in RUNGS for message in (RungStarted(name), row(name))),
                (0.0, _JobDone(True)),
            ]
        )
        worker.usable = True
        worker.current_rung = None

    def stop(worker: Worker) -> None:
        worker.usable = False
        stopped.append(worker)

    monkeypatch.setattr(Worker, "__init__", start)
    monkeypatch.setattr(Worker, "stop", stop)
    with WorkerSupervisor("scripted", Ceilings()) as workers:
        for _ in range(2):
            assert [row.rung for row in workers.run(JOB, 5.0)] == list(RUNGS)
        assert len(started) == (1 if healthy else 2)
        assert stopped == ([] if healthy else started[:1])


def test_a_worker_that_has_died_is_replaced_for_the_next_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[ScriptedWorker] = []
    scripts = [
        ("r01 R01 r03", WorkerDiedError("gone")),
        ("r07 R07", None),
        ("r01 R01 r03 R03 r07 R07", None),
    ]

    class Counted(ScriptedWorker):
        def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
            super().__init__(scenario, known)
            started.append(self)

    monkeypatch.setattr(ScriptedWorker, "scripts", scripts, raising=False)
    monkeypatch.setattr(ScriptedWorker, "jobs", [], raising=False)
    monkeypatch.setattr(worker_module, "Worker", Counted)
    with WorkerSupervisor("scripted", Ceilings()) as workers:
        statuses = [[row.status for row in workers.run(JOB, 5.0)] for _ in range(2)]
    assert statuses == [["skipped", "failed", "skipped"], ["skipped"] * 3]
    assert len(started) == 2
