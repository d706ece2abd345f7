"""What NVML says about a GPU, with a pretended NVML."""

import pynvml
import pytest

from gspn2bench.system import management
from gspn2bench.system.driver import DriverError
from gspn2bench.system.management import ClockLimits

IDLE = pynvml.nvmlClocksThrottleReasonGpuIdle
SETTING = pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting


class PretendedDriver:
    def bus_id(self, device: int) -> str:
        return f"0000:{device}"


class Nvml:
    """Answers, by the name of the function without its prefix; an unknown name is an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
        self.open = 0
        self.answers = answers
        monkeypatch.setattr(management, "Driver", PretendedDriver)
        monkeypatch.setattr(pynvml, "nvmlInit", self.init)
        monkeypatch.setattr(pynvml, "nvmlShutdown", self.shutdown)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByPciBusId", lambda bus_id: bus_id)
        for name in (
            *("Temperature", "CurrentClocksThrottleReasons", "ClockInfo"),
            *("ApplicationsClock", "DefaultApplicationsClock"),
        ):
            monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", self.getter(name))

    def init(self) -> None:
        self.open += 1

    def shutdown(self) -> None:
        self.open -= 1

    def getter(self, name: str):
        def get(handle: str, *_: object) -> object:
            assert (handle, self.open) == ("0000:0", 1)
            if name not in self.answers:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self.answers[name]

        return get


def test_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(monkeypatch, Temperature=61)
    assert management.temperature_c() == 61.0
    assert nvml.open == 0
    Nvml(monkeypatch)
    assert management.temperature_c() is None


@pytest.mark.parametrize(
    ("answers", "limits", "locked"),
    [
        ({}, ClockLimits(), None),
        ({"CurrentClocksThrottleReasons": 0}, ClockLimits(False), False),
        ({"CurrentClocksThrottleReasons": SETTING | 4}, ClockLimits(True), True),
        ({"CurrentClocksThrottleReasons": IDLE}, ClockLimits(False, idle=True), None),
        (
            {
                "CurrentClocksThrottleReasons": IDLE,
                "ApplicationsClock": 1410,
                "DefaultApplicationsClock": 1980,
                "ClockInfo": 345,
            },
            ClockLimits(False, True, 1410, 1980, 345),
            True,
        ),
    ],
)
def test_limits_of_the_clock(
    answers: dict[str, object],
    limits: ClockLimits,
    locked: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Nvml(monkeypatch, **answers)
    assert management.clock_limits() == limits
    assert limits.locked is locked


def test_without_a_driver_or_nvml_everything_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DriverError("no NVIDIA driver")

    monkeypatch.setattr(management, "Driver", missing)
    assert management.temperature_c() is None
    assert management.clock_limits() == ClockLimits()

    def broken() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    Nvml(monkeypatch, Temperature=61)
    monkeypatch.setattr(pynvml, "nvmlInit", broken)
    assert management.temperature_c() is None
