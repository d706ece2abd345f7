"""Clock, temperature and throttling of the GPU, from NVML."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch

POWER_CAP: Final = "power cap"
REASONS: Final = {
    "SwPowerCap": POWER_CAP,
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
}
"""NVML's throttle reasons that make a GPU slower than its load asks for."""


@dataclass(frozen=True)
class Clocks:
    """One reading.

    Args:
        clock_mhz: clock of the multiprocessors, MHz.
        temperature_c: of the GPU, degrees Celsius.
        throttle: reasons in force, comma-separated; empty where there are none.
    """

    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str | None = None

    @property
    def slowed(self) -> bool:
        """Whether samples taken now can't be trusted.

        The power cap alone does not count: a large GPU under load runs against it as a matter of
        course. It is recorded all the same.
        """
        return any(reason != POWER_CAP for reason in _reasons(self))


def together(readings: Sequence[Clocks]) -> Clocks:
    """Several readings as one: median clock, highest temperature, every throttle reason."""
    clock = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
    heat = [reading.temperature_c for reading in readings if reading.temperature_c is not None]
    told = any(reading.throttle is not None for reading in readings)
    reasons = dict.fromkeys(reason for reading in readings for reason in _reasons(reading))
    return Clocks(
        median(clock) if clock else None,
        max(heat, default=None),
        ", ".join(reasons) if told else None,
    )


def _reasons(reading: Clocks) -> list[str]:
    return reading.throttle.split(", ") if reading.throttle else []


def read() -> Clocks:
    """Read the current device; fields that NVML does not tell are None."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Clocks()
    try:
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        held = [
            words
            for name, words in REASONS.items()
            if bits & getattr(pynvml, f"nvmlClocksThrottleReason{name}")
        ]
        return Clocks(
            float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            ", ".join(held),
        )
    except pynvml.NVMLError:
        return Clocks()
    finally:
        pynvml.nvmlShutdown()
