"""Where the profilers and the browser are: on the path, or where their installers put them."""

import re
import shutil
from pathlib import Path
from typing import Final

NSIGHT_COMPUTE: Final = (
    "opt/nvidia/nsight-compute/*",
    "usr/local/cuda*/nsight-compute*",
    "usr/lib/nsight-compute*",
)
NSIGHT_SYSTEMS: Final = (
    "opt/nvidia/nsight-systems/*/bin",
    "opt/nvidia/nsight-systems/*/target-linux-*",
    "usr/local/cuda*/bin",
    "usr/lib/nsight-systems*",
)
NSIGHT_SYSTEMS_ROOTS: Final = ("opt/nvidia/nsight-systems/*", "usr/lib/nsight-systems*")
# Nsight Compute contains the command line of Nsight Systems for its own use
BUNDLED_NSYS: Final = "host/target-linux-*"
PROFILED: Final = "GSPN2BENCH_PROFILED"
"""Environment variable of a sweep that is profiled: the name of the profiler, nsys or ncu."""
INSTALL: Final = {
    "ncu": "install Nsight Compute, part of the CUDA toolkit: "
    "https://developer.nvidia.com/nsight-compute",
    "nsys": "install Nsight Systems: https://developer.nvidia.com/nsight-systems",
    "chromium": "install Chromium or Chrome (Debian: apt-get install chromium chromium-driver)",
}
"""How to get a program that was not found."""
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_ncu(root: Path = Path("/")) -> Path | None:
    """Nsight Compute's command line, the newest of several; None if there is none."""
    return _on_path("ncu") or _newest("ncu", NSIGHT_COMPUTE, root)


def find_nsys(root: Path = Path("/")) -> Path | None:
    """Nsight Systems' command line, or else the one inside Nsight Compute; None if neither is."""
    bundled = tuple(f"{place}/{BUNDLED_NSYS}" for place in NSIGHT_COMPUTE)
    path = _on_path("nsys") or _newest("nsys", NSIGHT_SYSTEMS, root)
    return path or _newest("nsys", bundled, root)


def find_importer(nsys: Path, root: Path = Path("/")) -> Path | None:
    """The program with which nsys turns a .qdstrm file into a report; None if it was not found.

    It is in ``host-linux-*``, beside the folder of the nsys that runs. A script on the path may
    stand for that nsys; then the usual places count. The nsys inside Nsight Compute has none.
    """
    real = nsys.resolve()
    folders = list(real.parents)[1:3]
    if "nsight-compute" not in str(real):
        folders += [path for place in NSIGHT_SYSTEMS_ROOTS for path in root.glob(place)]
    paths = (path for folder in folders for path in folder.glob("host-linux-*/QdstrmImporter"))
    return next((path for path in paths if path.is_file()), None)


def find_chromium() -> Path | None:
    """Chromium or Chrome; None if there is none."""
    return next((path for name in BROWSERS if (path := _on_path(name))), None)


def find_chromedriver() -> Path | None:
    """The WebDriver of Chromium; None if there is none."""
    return _on_path("chromedriver")


def _on_path(name: str) -> Path | None:
    path = shutil.which(name)
    return Path(path) if path else None


def _newest(name: str, places: tuple[str, ...], root: Path) -> Path | None:
    paths = [path for place in places for path in root.glob(f"{place}/{name}") if path.is_file()]
    return max(paths, key=_version, default=None)


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
