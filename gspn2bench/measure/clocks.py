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
"""NVML's throttle reasons that lower the clock of a loaded GPU, and their names in rows."""


@dataclass(frozen=True)
class Clocks:
    """One reading of the GPU's state.

    Args:
        clock_mhz: clock of the multiprocessors, MHz.
        temperature_c: of the GPU, degrees Celsius.
        throttle: active throttle reasons, comma-separated; empty without any, None if unknown.
    """

    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str | None = None

    @property
    def slowed(self) -> bool:
        """Whether samples taken at this time are unreliable.

        The power cap alone does not count, because a large GPU under load normally reaches it. It
        is still recorded.
        """
        return any(reason != POWER_CAP for reason in _reasons(self))


def combine(readings: Sequence[Clocks]) -> Clocks:
    """Combine readings: median clock, highest temperature, every throttle reason."""
    clocks_mhz = [reading.clock_mhz for reading in readings if reading.clock_mhz is not None]
    temperatures_c = [
        reading.temperature_c for reading in readings if reading.temperature_c is not None
    ]
    known = any(reading.throttle is not None for reading in readings)
    reasons = dict.fromkeys(reason for reading in readings for reason in _reasons(reading))
    return Clocks(
        median(clocks_mhz) if clocks_mhz else None,
        max(temperatures_c, default=None),
        ", ".join(reasons) if known else None,
    )


def _reasons(reading: Clocks) -> list[str]:
    return reading.throttle.split(", ") if reading.throttle else []


def read() -> Clocks:
    """Read the current device; fields that NVML does not report are None."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Clocks()
    try:
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        active = [
            reason
            for name, reason in REASONS.items()
            if bits & getattr(pynvml, f"nvmlClocksThrottleReason{name}")
        ]
        return Clocks(
            float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            ", ".join(active),
        )
    except pynvml.NVMLError:
        return Clocks()
    finally:
        pynvml.nvmlShutdown()
