"""Whose fault it is, and who goes on: workers that play what a test tells them."""

from collections.abc import Iterator
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
    _Done,
)

CASE = Case(1, 1, 2, 2)
RUNGS = ("r01", "r03", "r07")
JOB = CaseJob(CASE, tuple((name, Settings("played")) for name in RUNGS), Ceilings())
pytestmark = pytest.mark.skipif(not SIMULATED, reason="one row a rung: the simulator's")


def row(rung: str) -> Row:
    from gspn2bench import registry

    settings = Settings("played", timings=("device",))
    (made,) = unmeasured_rows(CASE, registry.find(rung), settings, Ceilings(), "skipped", "played")
    return made


class Player:
    """A worker that does one act of a play: turns (r07), rows (R07) and how it ends."""

    acts: list[tuple[str, Exception | None]]
    jobs: list[tuple[str, ...]]

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        self.usable = True
        self.turn: str | None = None
        self.ceilings = known

    def run(self, job: CaseJob, limit_s: float, watch: worker_module.Watch) -> Iterator[Row]:
        self.jobs.append(tuple(name for name, _ in job.rungs))
        self.turn = None
        words, error = self.acts.pop(0)
        for word in words.split():
            if word.isupper():
                yield row(word.lower())
            else:
                self.turn = word
        if error:
            self.usable = False
            raise error

    def stop(self) -> None:
        self.usable = False


def play(monkeypatch: pytest.MonkeyPatch, *acts: tuple[str, Exception | None]) -> list[Any]:
    """Status of every row, in order."""
    monkeypatch.setattr(Player, "acts", list(acts), raising=False)
    monkeypatch.setattr(Player, "jobs", [], raising=False)
    monkeypatch.setattr(worker_module, "Worker", Player)
    with WorkerSupervisor("played", Ceilings()) as workers:
        given = [(each.rung, each.status) for each in workers.rows(JOB, 5.0)]
    assert not Player.acts
    return given


def test_the_rung_whose_turn_it_was_is_to_blame_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = play(
        monkeypatch,
        ("r01 r03 R03 r07 r01 r07", WorkerDiedError("signal SIGSEGV")),
        ("r01 R01", None),
    )
    assert found == [("r03", "skipped"), ("r07", "failed"), ("r01", "skipped")]
    assert Player.jobs == [RUNGS, ("r01",)]


def test_a_rung_that_hangs_is_a_timeout_and_its_rows_before_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acts = [("r01 R01 r03", TimeLimitError("over 5 s")), ("r07", TimeLimitError("over 5 s"))]
    found = play(monkeypatch, *acts)
    assert found == [("r01", "skipped"), ("r03", "timeout"), ("r07", "timeout")]


def test_a_job_that_ends_early_in_peace_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = play(monkeypatch, ("r01 R01", None), ("r03 R03 r07 R07", None))
    assert [rung for rung, _ in found] == list(RUNGS)


def test_a_worker_that_gives_nothing_does_not_go_on_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = play(monkeypatch, ("r01", None), ("", None))
    assert found == [(name, "failed") for name in RUNGS]


def test_a_lost_gpu_leaves_the_rest_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = play(monkeypatch, ("r01 R01 r03", GpuLostError("fell off the bus")))
    assert found == [("r01", "skipped"), ("r03", "not_run"), ("r07", "not_run")]


class Pipe:
    """A pipe whose answers take their time; notes how long each is waited for."""

    def __init__(self, answers: list[tuple[float, object]]) -> None:
        self.answers = answers
        self.now = 100.0
        self.waits: list[float] = []

    def send(self, job: object) -> None:
        pass

    def poll(self, timeout: float) -> bool:
        self.waits.append(timeout)
        self.now += min(timeout, self.answers[0][0])
        return self.answers[0][0] <= timeout

    def recv(self) -> object:
        return self.answers.pop(0)[1]


def test_the_limit_is_that_of_each_rungs_turns_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(
        [
            (0.0, RungStarted("r01")),
            (4.0, RungStarted("r03")),
            (3.0, RungStarted("r01")),
            (0.5, row("r01")),
            (0.25, RungStarted("r03")),
            (9.0, _Done(True)),
        ]
    )
    monkeypatch.setattr(worker_module.time, "monotonic", lambda: pipe.now)
    monkeypatch.setattr(Worker, "stop", lambda worker: None)
    worker = Worker.__new__(Worker)
    worker._pipe = pipe  # type: ignore[assignment]
    given = worker.run(JOB, 5.0)
    assert next(given).rung == "r01"
    with pytest.raises(TimeLimitError, match="over 5 s"):
        next(given)
    assert worker.turn == "r03"
    # r01 has 5 s, then what is left of them; so has r03
    assert pipe.waits == [5.0, 5.0, 5.0, 1.0, 0.5, 2.0]
