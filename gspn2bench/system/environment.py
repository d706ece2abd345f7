"""The machine and the software of a run, as run.json records them.

The machine's name is never stored: ``host`` is a label that the user chooses, or a hash.
"""

import hashlib
import importlib.metadata
import importlib.resources
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from gspn2bench.records.schema import Environment, Gpu, Source
from gspn2bench.system.driver import Driver, DriverError

HOST_VARIABLE: Final = "GSPN2BENCH_HOST"
PACKAGES: Final = (
    "gspn2bench",
    "cuda-bindings",
    "cuda-core",
    "llvmlite",
    "numba",
    "numba-cuda",
    "numpy",
    "nvidia-ml-py",
    "nvtx",
    "pandas",
    "plotly",
    "pydantic",
    "scipy",
    "torch",
    "triton",
)
SOURCES: Final = ("gspn2bench", "gspn2bench.kernels", "gspn2bench.scenarios")
"""Packages whose folders contain the source; in a checkout they are beside each other."""


def collect() -> Environment:
    """The environment of this process; what can't be determined is None."""
    commit, dirty = _git(Path(__file__).resolve().parents[2])
    return Environment(
        host=host_label(),
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cpu_count=os.cpu_count(),
        gpu=_gpu(),
        packages={name: package_version(name) for name in PACKAGES},
        source=Source(sha256=source_hash(), commit=commit, dirty=dirty),
    )


def cuda_unavailable_reason() -> str | None:
    """Why CUDA can't be used here; None if it can."""
    try:
        driver = Driver()
        if driver.device_count() == 0:
            return "the NVIDIA driver finds no GPU"
    except DriverError as error:
        return str(error)
    # last: this import takes seconds
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        newest = ".".join(map(str, driver.version()))
        return (
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, "
            f"but the driver supports up to {newest}"
        )
    return None


def host_label() -> str:
    """$GSPN2BENCH_HOST, or 12 hexadecimal digits of a hash of the machine's name."""
    digest = hashlib.sha256(socket.gethostname().encode()).hexdigest()
    return os.environ.get(HOST_VARIABLE) or digest[:12]


def package_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu(device: int = 0) -> Gpu | None:
    try:
        driver = Driver()
        if driver.device_count() == 0:
            return None
        return Gpu(
            name=driver.name(device),
            cuda=".".join(map(str, driver.version())),
            multiprocessors=driver.attribute(device, "multiprocessors"),
            l2_bytes=driver.attribute(device, "l2_bytes"),
            memory_bytes=driver.memory_bytes(device),
            **_management(driver.bus_id(device)),
        )
    except DriverError:
        return None


def _management(bus_id: str) -> dict[str, Any]:
    """The driver's version and the clocks in MHz, which only NVML knows."""
    import pynvml

    def ask(question: Callable[..., Any], *arguments: object) -> Any:
        try:
            return question(*arguments)
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {"driver": None}
    try:
        gpu = ask(pynvml.nvmlDeviceGetHandleByPciBusId, bus_id)
        sm, memory = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
        return {
            "driver": ask(pynvml.nvmlSystemGetDriverVersion),
            "clock_sm_mhz": ask(pynvml.nvmlDeviceGetClockInfo, gpu, sm),
            "clock_sm_max_mhz": ask(pynvml.nvmlDeviceGetMaxClockInfo, gpu, sm),
            "clock_memory_mhz": ask(pynvml.nvmlDeviceGetClockInfo, gpu, memory),
            "clock_memory_max_mhz": ask(pynvml.nvmlDeviceGetMaxClockInfo, gpu, memory),
        }
    finally:
        pynvml.nvmlShutdown()


def source_hash(folders: Mapping[str, Traversable] | None = None) -> str:
    """One hash of all source files; a checkout and the wheel built from it have the same hash.

    It covers names and contents of code, kernels, scenarios and the assets of pages. Bytecode and
    hidden files are left out.

    Args:
        folders: the folder of each package in ``SOURCES``; by default those of this process.
    """
    if folders is None:
        folders = {package: importlib.resources.files(package) for package in SOURCES}
    # by name, because the wheel contains the other packages in the folder of the first
    files: dict[str, Traversable] = {}
    for package, folder in folders.items():
        files |= _files(folder, package.replace(".", "/"))
    digest = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def _files(folder: Traversable, prefix: str) -> dict[str, Traversable]:
    """The source files below a folder, by their names below ``prefix``."""
    files: dict[str, Traversable] = {}
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            files |= _files(entry, name)
        elif not entry.name.endswith(".pyc"):
            files[name] = entry
    return files


def _git(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout at ``root``, and whether it is dirty; None if it is not a checkout."""
    commit = status = None
    if (root / ".git").exists():
        commit = _run_git(root, "rev-parse", "HEAD")
        status = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    if commit is None or status is None:
        return None, None
    return commit, bool(status)


def _run_git(root: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
