"""Where kernels run: on a GPU or in Numba's CUDA simulator; chosen before numba is imported."""

import os
import sys
from dataclasses import dataclass
from typing import Final, Literal, get_args

from gspn2bench.errors import UsageError, unknown
from gspn2bench.system.environment import cuda_unavailable_reason

Device = Literal["auto", "cuda", "sim"]
SIMULATOR: Final = "NUMBA_ENABLE_CUDASIM"


@dataclass(frozen=True)
class Backend:
    """The chosen backend.

    Args:
        simulated: whether kernels run in the simulator.
        reason: why they are simulated; None on a GPU.
    """

    simulated: bool
    reason: str | None = None


def activate(device: str = "auto") -> Backend:
    """Choose the GPU or the simulator, and configure numba for it; the simulator gets one core.

    Args:
        device: "cuda", "sim", or "auto": a GPU if one can be used, or else the simulator.

    Raises:
        UsageError: ``device`` is unknown, or it is "cuda" and CUDA can't be used; says why.
    """
    if device not in get_args(Device):
        raise unknown("device", device, get_args(Device))
    requested = os.environ.get(SIMULATOR) == "1"
    if device == "sim":
        backend = Backend(True, "the simulator was requested with --device sim")
    elif device == "auto" and requested:
        backend = Backend(True, f"the simulator was requested with {SIMULATOR}=1")
    else:
        missing = cuda_unavailable_reason()
        if missing is not None and device == "cuda":
            raise UsageError(
                f"--device: cuda can't be used: {missing}; "
                "`gspn2bench doctor` prints how to fix it, and --device sim needs no GPU"
            )
        backend = Backend(missing is not None, missing)
    if "numba" in sys.modules and backend.simulated != requested:
        raise RuntimeError("the backend must be chosen before numba is imported")
    os.environ[SIMULATOR] = "1" if backend.simulated else "0"
    if backend.simulated:
        _keep_to_one_core()
    return backend


def _keep_to_one_core() -> None:
    """Bind this process and its children to one core, if the system supports it.

    A simulated thread is a Python thread, and only one Python thread runs at a time. On several
    cores the threads switch between cores and take twice as long.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
