"""Clock, temperature and throttling of the GPU, from NVML."""

from dataclasses import dataclass
from typing import Final

import torch

REASONS: Final = {
    "SwPowerCap": "power cap",
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
