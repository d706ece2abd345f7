"""A case starts only on a cool GPU; a pretended thermometer and clock."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench.app import app
from gspn2bench.cases.scenario import Case, load
from gspn2bench.errors import UsageError
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.records.store import read_run
from gspn2bench.run import cooling, sweep, trial
from gspn2bench.run.cooling import Cooling
from gspn2bench.system import backend, management

HOT = Cooling(below_c=50.0, limit_s=3.0)


class Thermometer:
    """Temperatures, one per second of the pretended clock; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, readings: Iterable[float | None]) -> None:
        self.readings = list(readings)
        self.now = 0.0
        self.notes: list[str] = []
        monkeypatch.setattr(management, "temperature_c", self.read)
        monkeypatch.setattr(cooling.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(cooling.time, "sleep", self.sleep)

    def read(self) -> float | None:
        return self.readings[min(int(self.now), len(self.readings) - 1)]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("readings", "reason", "notes"),
    [
        ([49.0], None, []),
        ([60.0, 55.0, 49.0], None, ["cooling, 60 C", "cooling, 55 C"]),
        # below means below
        ([50.0, 49.0], None, ["cooling, 50 C"]),
        (
            [60.0, 59.0, 58.0, 57.0],
            "cooling: the GPU is at 57 C after 3 s, not below 50 C",
            ["cooling, 60 C", "cooling, 59 C", "cooling, 58 C"],
        ),
        # cool at the last moment
        ([60.0, 59.0, 58.0, 49.0], None, ["cooling, 60 C", "cooling, 59 C", "cooling, 58 C"]),
        ([60.0, None], "cooling: the temperature of the GPU is unknown", ["cooling, 60 C"]),
    ],
)
def test_the_wait(
    readings: list[float | None],
    reason: str | None,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thermometer = Thermometer(monkeypatch, readings)
    assert HOT.wait(thermometer.notes.append) == reason
    assert thermometer.notes == notes
    assert thermometer.now <= HOT.limit_s


@pytest.mark.skipif(not SIMULATED, reason="one row per rung, as in the simulator")
def test_a_case_on_a_hot_gpu_is_not_run_and_a_resumed_run_waits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = (Case(1, 1, 2, 2), Case(1, 1, 2, 3))
    settings = trial.Settings("quick")
    todo = sweep.Sweep(cases, ("r01", "r07"), settings, 60.0, HOT)
    waits = iter([None, "cooling: too hot"])
    monkeypatch.setattr(Cooling, "wait", lambda self, notify: next(waits))
    where = backend.activate("sim")
    with sweep.create(tmp_path, load("quick"), todo, where, ["gspn2bench"]) as writer:
        finished = list(sweep.run(writer, todo))
    assert [len(trial.rows) for trial in finished] == [1] * 4
    run = read_run(writer.path)
    assert [(row.case, row.status, row.reason) for row in run.rows] == [
        (cases[0].label, "ok", None),
        (cases[0].label, "ok", None),
        (cases[1].label, "not_run", "cooling: too hot"),
        (cases[1].label, "not_run", "cooling: too hot"),
    ]
    assert sweep.planned(run.record).cooling == HOT
    plan = run.record.plan
    assert plan is not None
    assert (plan.cool_below_c, plan.cool_limit_s) == (50.0, 3.0)


def test_without_the_option_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "temperature_c", lambda: pytest.fail("was read"))
    options = ["-a", "size=2", "-a", "batch=1", "--rung", "r07", "--device", "sim"]
    result = CliRunner().invoke(app, ["sweep", "quick", "--results", str(tmp_path), *options])
    assert result.exit_code == 0
    (folder,) = tmp_path.iterdir()
    plan = read_run(folder).record.plan
    assert plan is not None
    assert (plan.cool_below_c, plan.cool_limit_s) == (None, None)


def test_the_simulator_has_no_temperature(tmp_path: Path) -> None:
    options = ["--wait-for-cool", "50", "--device", "sim", "--results", str(tmp_path)]
    result = CliRunner().invoke(app, ["sweep", "quick", *options])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == (
        "--wait-for-cool: needs a GPU; the simulator has no temperature"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("temperature_c", [None, 70.0])
def test_a_gpu_must_report_its_temperature(
    temperature_c: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gspn2bench.commands.sweep import _cooling
    from gspn2bench.system.backend import Backend

    monkeypatch.setattr(management, "temperature_c", lambda: temperature_c)
    gpu = Backend(simulated=False, reason=None)
    if temperature_c is None:
        with pytest.raises(UsageError, match="NVML does not report the temperature"):
            _cooling(50.0, 3.0, gpu)
    else:
        assert _cooling(50.0, 3.0, gpu) == HOT
    assert _cooling(None, 3.0, gpu) is None
