"""The state of the GPU that NVML reports: its temperature, and limits of its clocks.

Nothing here changes a setting or creates a CUDA context.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gspn2bench.system.driver import Driver, DriverError


@dataclass(frozen=True)
class ClockLimits:
    """The limits of the clock of the multiprocessors.

    NVML has no query for the range of locked clocks. It reports only that a setting limits the
    clock now, and documents this for application clocks.

    Args:
        limited: whether a setting limits the clock now; None if unknown.
        idle: whether the GPU is idle. No setting limits its clock then.
        application_mhz: application clock; None if the GPU does not report it.
        default_mhz: default of the application clock; None if the GPU does not report it.
        current_mhz: the clock now; None if unknown.
    """

    limited: bool | None = None
    idle: bool = False
    application_mhz: int | None = None
    default_mhz: int | None = None
    current_mhz: int | None = None

    @property
    def locked(self) -> bool | None:
        """Whether a setting limits the clock of a loaded GPU; None if NVML does not show it."""
        if self.limited or self.application_mhz != self.default_mhz:
            return True
        return None if self.idle else self.limited


def temperature_c(device: int = 0) -> float | None:
    """Temperature of the GPU, degrees Celsius; None if it is unknown."""
    with _asking(device) as ask:
        import pynvml

        value = ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
        return None if value is None else float(value)


def clock_limits(device: int = 0) -> ClockLimits:
    """The limits of the GPU's clock; all unknown without a GPU."""
    with _asking(device) as ask:
        import pynvml

        sm = pynvml.NVML_CLOCK_SM
        reasons = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return ClockLimits(
            limited=None
            if reasons is None
            else bool(reasons & pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting),
            idle=bool((reasons or 0) & pynvml.nvmlClocksThrottleReasonGpuIdle),
            application_mhz=ask(pynvml.nvmlDeviceGetApplicationsClock, sm),
            default_mhz=ask(pynvml.nvmlDeviceGetDefaultApplicationsClock, sm),
            current_mhz=ask(pynvml.nvmlDeviceGetClockInfo, sm),
        )


@contextmanager
def _asking(device: int) -> Iterator[Callable[..., Any]]:
    """A function that asks NVML about a GPU, and answers None where NVML does not.

    Args:
        device: as the CUDA driver counts; NVML counts in a different order.
    """
    import pynvml

    try:
        bus_id = Driver().bus_id(device)
        pynvml.nvmlInit()
    except (DriverError, pynvml.NVMLError):
        yield lambda *_: None
        return

    def ask(question: Callable[..., Any], *arguments: object) -> Any:
        try:
            return question(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id), *arguments)
        except pynvml.NVMLError:
            return None

    try:
        yield ask
    finally:
        pynvml.nvmlShutdown()
