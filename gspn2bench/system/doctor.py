"""What this machine can do for a benchmark, and how to mend what it cannot."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gspn2bench.system import executables
from gspn2bench.system.driver import Driver, DriverError
from gspn2bench.system.environment import find_cuda

Answer = Literal["yes", "no", "unknown"]

DRIVER_PARAMETERS: Final = Path("/proc/driver/nvidia/params")
PROCESS_STATUS: Final = Path("/proc/self/status")
CAP_SYS_ADMIN: Final = 21
COMPILERS: Final = {"cu13": "nvidia-cuda-nvrtc", "cu12": "nvidia-cuda-nvrtc-cu12"}

MEND_DRIVER: Final = (
    "install the NVIDIA driver, and start containers with --gpus all; until then sweeps run in "
    "the simulator"
)
MEND_TORCH: Final = "install the build of torch for the driver's CUDA: see pytorch.org"
MEND_COMPILER: Final = "pip install 'gspn2bench[cu13]', or [cu12] where the driver runs CUDA 12"
MEND_NCU: Final = "install Nsight Compute: it comes with the CUDA toolkit"
MEND_NSYS: Final = "install Nsight Systems, or Nsight Compute, which has nsys inside"
MEND_COUNTERS: Final = (
    "run as root (containers: --cap-add SYS_ADMIN), or load the nvidia module with "
    "NVreg_RestrictProfilingToAdminUsers=0"
)
MEND_CHROMIUM: Final = "apt-get install chromium chromium-driver"


@dataclass(frozen=True)
class Check:
    """One ability of the machine.

    Args:
        name: what was looked for.
        answer: "yes", "no", or "unknown" where it cannot be told from here.
        detail: what was found.
        mend: what to do about it; empty where there is nothing to do.
    """

    name: str
    answer: Answer
    detail: str
    mend: str = ""


def examine() -> list[Check]:
    """Every check, in the order of a sweep: GPU, packages, profilers, browser."""
    checks: list[Callable[[], Check]] = [
        check_gpu,
        check_torch,
        check_compiler,
        check_simulator,
        check_ncu,
        check_nsys,
        check_counters,
        check_chromium,
    ]
    return [check() for check in checks]


def cuda_advice() -> str | None:
    """Why CUDA cannot be used and how to mend it, in one line; None where it can."""
    reason = find_cuda()
    if reason is None:
        return None
    return f"{reason}; {MEND_TORCH if reason.startswith('torch') else MEND_DRIVER}"


def check_gpu() -> Check:
    """A driver and a GPU."""
    try:
        driver = Driver()
        if driver.device_count() == 0:
            return Check("GPU", "no", "the NVIDIA driver finds no GPU", MEND_DRIVER)
        newest = ".".join(map(str, driver.version()))
        multiprocessors = driver.attribute(0, "multiprocessors")
        detail = f"{driver.name(0)}, {multiprocessors} SMs, CUDA up to {newest}"
        return Check("GPU", "yes", detail)
    except DriverError as error:
        return Check("GPU", "no", str(error), MEND_DRIVER)


def check_torch() -> Check:
    """A torch that can use the GPU."""
    version = _version("torch")
    if version is None:
        return Check("torch", "no", "not installed", MEND_TORCH)
    reason = find_cuda()
    if reason is None:
        return Check("torch", "yes", f"{version}, sees the GPU")
    if reason.startswith("torch"):
        return Check("torch", "no", reason, MEND_TORCH)
    return Check("torch", "yes", f"{version}, on the CPU only")


def check_compiler() -> Check:
    """numba-cuda and the CUDA libraries that it compiles kernels with."""
    version = _version("numba-cuda")
    if version is None:
        return Check("numba-cuda", "no", "not installed", MEND_COMPILER)
    for extra, package in COMPILERS.items():
        if found := _version(package):
            return Check("numba-cuda", "yes", f"{version}, NVRTC {found} ({extra})")
    detail = f"{version}; no NVRTC among the packages, a CUDA toolkit may have it"
    return Check("numba-cuda", "unknown", detail, MEND_COMPILER)


def check_simulator() -> Check:
    """Numba's CUDA simulator, which needs no GPU."""
    missing = [name for name in ("numba", "numba-cuda") if _version(name) is None]
    if missing:
        return Check("simulator", "no", f"{missing[0]} is not installed", MEND_COMPILER)
    return Check("simulator", "yes", "correctness, launches and traffic; no latency")


def check_ncu() -> Check:
    """Nsight Compute."""
    return _tool("ncu", executables.find_ncu(), MEND_NCU)


def check_nsys() -> Check:
    """Nsight Systems."""
    return _tool("nsys", executables.find_nsys(), MEND_NSYS)


def check_counters(parameters: Path = DRIVER_PARAMETERS, status: Path = PROCESS_STATUS) -> Check:
    """Whether this user may read the GPU's hardware counters.

    Args:
        parameters: the kernel module's parameters.
        status: this process' status, with its capabilities.
    """
    name = "counters"
    restricted = _field(parameters, "RmProfilingAdminOnly")
    if restricted is None:
        detail = f"{parameters} does not say whether counters are restricted"
        return Check(name, "unknown", detail, "run ncu once: it fails with ERR_NVGPUCTRPERM if so")
    if restricted == "0":
        return Check(name, "yes", "open to every user")
    capabilities = _field(status, "CapEff")
    if capabilities is not None and int(capabilities, 16) >> CAP_SYS_ADMIN & 1:
        return Check(name, "yes", "restricted to administrators, and this process is one")
    return Check(name, "no", "restricted to administrators", MEND_COUNTERS)


def check_chromium() -> Check:
    """A browser and its driver, for pictures of reports and for the tests that open them."""
    browser, driver = executables.find_chromium(), executables.find_chromedriver()
    if browser is None:
        return Check("chromium", "no", "not found", MEND_CHROMIUM)
    if driver is None:
        return Check("chromium", "no", f"{browser}, without chromedriver", MEND_CHROMIUM)
    return Check("chromium", "yes", str(browser))


def _tool(name: str, path: Path | None, mend: str) -> Check:
    if path is None:
        return Check(name, "no", "not found", mend)
    return Check(name, "yes", str(path))


def _field(file: Path, name: str) -> str | None:
    """The value of a ``name: value`` line; None where the file or the line is missing."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in found if key.strip() == name), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
