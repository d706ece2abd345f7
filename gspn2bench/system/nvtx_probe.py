"""Whether Nsight Systems records the NVTX ranges of a sweep.

nvtx 0.2.12 and later call ``nvtxDomainIsEnabled`` before they emit a range. An older nsys, such as
the 2023.4 of Debian and Ubuntu, does not implement it. nvtx then emits no range, the capture never
starts, and nsys ends with exit code 0 and without a report.
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gspn2bench.system.executables import INSTALL

PROBE_SECONDS: Final = 60.0
OLD_NVTX: Final = "nvtx==0.2.11"
"""The newest nvtx whose ranges every nsys records."""
CODE: Final = "from gspn2bench.nvtx_ranges import domain_state; print(domain_state())"
"""Printed by a program that runs under the tool."""
FIX: Final = f"{INSTALL['nsys']}, 2025 or newer, or pip install '{OLD_NVTX}'"


def silent_reason(nsys: Path) -> str | None:
    """Why a capture with this nsys would stay empty; None if it would not, or can't be determined.

    Runs a short program under nsys, for about a second. Nothing is captured.
    """
    from gspn2bench.nvtx_ranges import DOMAIN, RECORDED, SILENT  # slow: nvtx imports numpy

    with tempfile.TemporaryDirectory() as folder:
        command = [str(nsys), "profile", "-t", "nvtx", "-s", "none", "--cpuctxsw=none"]
        command += ["-c", "nvtx", "-p", f"measure@{DOMAIN}", "-o", str(Path(folder) / "probe")]
        try:
            result = subprocess.run(
                [*command, sys.executable, "-P", "-c", CODE],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=PROBE_SECONDS,
                env=os.environ | {"LC_ALL": "C", "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    if SILENT in result.stdout and RECORDED not in result.stdout:
        return f"this nsys does not record the ranges of nvtx {version('nvtx')}"
    return None
