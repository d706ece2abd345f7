"""Where kernels run: on a GPU, or in Numba's CUDA simulator. Chosen before numba is imported."""

import os
import sys
from dataclasses import dataclass
from typing import Final, Literal, get_args

from gspn2bench.errors import UsageError, unknown
from gspn2bench.system.environment import find_cuda

Device = Literal["auto", "cuda", "sim"]
SIMULATOR: Final = "NUMBA_ENABLE_CUDASIM"


@dataclass(frozen=True)
class Backend:
    """The choice that was made.

    Args:
        simulated: whether kernels run in the simulator.
        reason: why they do; None on a GPU.
    """

    simulated: bool
    reason: str | None = None


def activate(device: str = "auto") -> Backend:
    """Choose the GPU or the simulator, and set numba up for it; the simulator gets one core.

    Args:
        device: "cuda", "sim", or "auto": a GPU where one can be used, the simulator otherwise.

    Raises:
        UsageError: not one of these, or "cuda" where CUDA can't be used; says why.
    """
    if device not in get_args(Device):
        raise unknown("device", device, get_args(Device))
    asked = os.environ.get(SIMULATOR) == "1"
    if device == "sim":
        backend = Backend(True, "the simulator was asked for (--device sim)")
    elif device == "auto" and asked:
        backend = Backend(True, f"the simulator was asked for ({SIMULATOR}=1)")
    else:
        missing = find_cuda()
        if missing is not None and device == "cuda":
            raise UsageError(
                f"--device: cuda can't be used: {missing}; "
                "`gspn2bench doctor` says how to mend it, --device sim runs without a GPU"
            )
        backend = Backend(missing is not None, missing)
    if "numba" in sys.modules and backend.simulated != asked:
        raise RuntimeError("the backend must be chosen before numba is imported")
    os.environ[SIMULATOR] = "1" if backend.simulated else "0"
    if backend.simulated:
        _keep_to_one_core()
    return backend


def _keep_to_one_core() -> None:
    """Bind this process, and those it starts, to one core, where the system can.

    A simulated thread is a Python thread, and only one of those runs at a time. On several cores
    they hand over from core to core, and take twice as long.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
