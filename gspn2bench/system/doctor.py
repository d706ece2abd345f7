"""What this machine can do for a benchmark, and how to fix what it cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gspn2bench.system import executables, management, nvtx_probe
from gspn2bench.system.driver import Driver, DriverError
from gspn2bench.system.environment import cuda_unavailable_reason, package_version
from gspn2bench.system.executables import INSTALL

Answer = Literal["yes", "no", "unknown"]

DRIVER_PARAMETERS: Final = Path("/proc/driver/nvidia/params")
PROCESS_STATUS: Final = Path("/proc/self/status")
CAP_SYS_ADMIN: Final = 21
COMPILERS: Final = {"cu13": "nvidia-cuda-nvrtc", "cu12": "nvidia-cuda-nvrtc-cu12"}

FIX_DRIVER: Final = (
    "install the NVIDIA driver, or start the container with --gpus all; without a GPU, sweeps run "
    "in the simulator"
)
FIX_TORCH: Final = "install the torch build for the driver's CUDA version: see pytorch.org"
FIX_COMPILER: Final = (
    "pip install 'gspn2bench[cu13]', or 'gspn2bench[cu12]' if the driver supports only CUDA 12"
)
FIX_COUNTERS: Final = (
    "run as root (in a container: --cap-add SYS_ADMIN), or load the nvidia kernel module with "
    "NVreg_RestrictProfilingToAdminUsers=0"
)
FIX_IMPORTER: Final = (
    "install a full Nsight Systems, or import its .qdstrm files elsewhere: see docs/profiling.md"
)
FIX_CLOCKS: Final = (
    "for less scatter an administrator can lock them: nvidia-smi --lock-gpu-clocks=MHZ, and "
    "--reset-gpu-clocks afterwards; gspn2bench never changes clocks"
)


@dataclass(frozen=True)
class Check:
    """One ability of the machine.

    Args:
        name: of the ability.
        answer: "yes", "no", or "unknown" where it can't be determined.
        detail: the version, the path, or what is missing.
        fix: what to do about it; empty where nothing needs fixing.
    """

    name: str
    answer: Answer
    detail: str
    fix: str = ""


def examine() -> list[Check]:
    """Every check, in the order of a sweep: GPU, packages, profilers, clocks, browser."""
    checks: list[Callable[[], Check]] = [
        check_gpu,
        check_torch,
        check_compiler,
        check_simulator,
        check_ncu,
        check_nsys,
        check_counters,
        check_clocks,
        check_chromium,
    ]
    return [check() for check in checks]


def check_gpu() -> Check:
    """A driver and a GPU."""
    try:
        driver = Driver()
        if driver.device_count() == 0:
            return Check("GPU", "no", "the NVIDIA driver finds no GPU", FIX_DRIVER)
        newest = ".".join(map(str, driver.version()))
        multiprocessors = driver.attribute(0, "multiprocessors")
        detail = f"{driver.name(0)}, {multiprocessors} SMs, driver supports CUDA {newest}"
        return Check("GPU", "yes", detail)
    except DriverError as error:
        return Check("GPU", "no", str(error), FIX_DRIVER)


def check_torch() -> Check:
    """A torch build that can use the GPU."""
    version = package_version("torch")
    if version is None:
        return Check("torch", "no", "not installed", FIX_TORCH)
    reason = cuda_unavailable_reason()
    if reason is None:
        return Check("torch", "yes", f"{version}, can use the GPU")
    if reason.startswith("torch"):
        return Check("torch", "no", reason, FIX_TORCH)
    return Check("torch", "yes", f"{version}, CPU only")


def check_compiler() -> Check:
    """numba-cuda, and NVRTC, with which it compiles kernels."""
    version = package_version("numba-cuda")
    if version is None:
        return Check("numba-cuda", "no", "not installed", FIX_COMPILER)
    for extra, package in COMPILERS.items():
        if nvrtc := package_version(package):
            return Check("numba-cuda", "yes", f"{version}, NVRTC {nvrtc} ({extra})")
    detail = f"{version}; NVRTC is not installed with pip, but a CUDA toolkit may provide it"
    return Check("numba-cuda", "unknown", detail, FIX_COMPILER)


def check_simulator() -> Check:
    """Numba's CUDA simulator, which needs no GPU."""
    missing = [name for name in ("numba", "numba-cuda") if package_version(name) is None]
    if missing:
        return Check("simulator", "no", f"{missing[0]} is not installed", FIX_COMPILER)
    return Check("simulator", "yes", "correctness, launches and traffic; no latency")


def check_ncu() -> Check:
    """Nsight Compute."""
    return _tool("ncu", executables.find_ncu(), INSTALL["ncu"])


def check_nsys() -> Check:
    """Nsight Systems: that it records the ranges of a sweep, and that it can write a report."""
    path = executables.find_nsys()
    if path is None:
        return _tool("nsys", path, INSTALL["nsys"])
    if reason := nvtx_probe.silent_reason(path):
        return Check("nsys", "no", f"{path}: {reason}", nvtx_probe.FIX)
    if executables.find_importer(path) is None:
        return Check("nsys", "unknown", f"{path}, which may lack its importer", FIX_IMPORTER)
    return Check("nsys", "yes", str(path))


def check_counters(parameters: Path = DRIVER_PARAMETERS, status: Path = PROCESS_STATUS) -> Check:
    """Whether this user may read the GPU's hardware counters.

    Args:
        parameters: file with the parameters of the nvidia kernel module.
        status: file with the capabilities of this process.
    """
    name = "counters"
    restricted = _field(parameters, "RmProfilingAdminOnly")
    if restricted is None:
        detail = f"{parameters} does not say whether counters are restricted"
        return Check(name, "unknown", detail, "run ncu once; ERR_NVGPUCTRPERM means that they are")
    if restricted == "0":
        return Check(name, "yes", "open to every user")
    capabilities = _field(status, "CapEff")
    if capabilities is not None and int(capabilities, 16) >> CAP_SYS_ADMIN & 1:
        return Check(name, "yes", "restricted to administrators; this process has the right")
    return Check(name, "no", "restricted to administrators", FIX_COUNTERS)


def check_clocks() -> Check:
    """Whether the clock of the GPU is limited by application clocks or locked clocks."""
    name, limits = "locked clocks", management.clock_limits()
    application, default = limits.application_mhz, limits.default_mhz
    setting = "" if application is None else f"application clock {application} MHz"
    if application != default:
        setting += f", default {default or 'unknown'} MHz"
    now = f"now {limits.current_mhz or 'unknown'} MHz"
    facts = ", ".join(filter(None, [setting, now]))
    if limits.locked:
        return Check(name, "yes", f"a setting limits the clock: {facts}")
    if limits.locked is False:
        return Check(name, "no", f"no setting limits the clock: {facts}", FIX_CLOCKS)
    if limits.idle:
        detail = f"{facts}; the GPU is idle, and NVML reports a limit only under load"
        return Check(name, "unknown", detail, "run doctor during a sweep")
    return Check(name, "unknown", "NVML does not report the clocks of a GPU", FIX_CLOCKS)


def check_chromium() -> Check:
    """A browser for `report --png`, and its driver for the tests that open pages."""
    browser, driver = executables.find_chromium(), executables.find_chromedriver()
    if browser is None:
        return Check("chromium", "no", "not found", INSTALL["chromium"])
    if driver is None:
        return Check("chromium", "no", f"{browser}, without chromedriver", INSTALL["chromium"])
    return Check("chromium", "yes", str(browser))


def _tool(name: str, path: Path | None, fix: str) -> Check:
    if path is None:
        return Check(name, "no", "not found", fix)
    return Check(name, "yes", str(path))


def _field(file: Path, name: str) -> str | None:
    """The value of a ``name: value`` line; None where the file or the line is missing."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)
