"""Global-memory traffic from hardware counters, read by Nsight Compute in a separate process.

ncu runs a program that makes one call per trial inside the NVTX range ``measure``. It writes one
line per kernel, and the lines of a trial are summed. ncu runs each kernel several times to read all
counters, so latencies of such a run have no meaning.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gspn2bench.nvtx_ranges import DOMAIN, RangeName
from gspn2bench.system import executables, ncu_page
from gspn2bench.system.doctor import FIX_COUNTERS
from gspn2bench.system.environment import cuda_unavailable_reason
from gspn2bench.system.executables import INSTALL

CacheControl = Literal["none", "all"]
"""Whether ncu leaves the caches as they are ("none") or flushes them before each kernel."""

RANGE: Final[RangeName] = "measure"
METRICS: Final = {
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_write_bytes": "dram__bytes_write.sum",
    "l2_read_sectors": "lts__t_sectors_op_read.sum",
    "l2_write_sectors": "lts__t_sectors_op_write.sum",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
}
"""ncu's metrics, by the field of ``Counters``."""
UNITS: Final = {
    "": 1,
    "sector": 1,
    "request": 1,
    "byte": 1,
    "Kbyte": 10**3,
    "Mbyte": 10**6,
    "Gbyte": 10**9,
}
LIMIT_SECONDS: Final = 600.0
"""Longest time per trial; a process of several trials has this time for each."""
MAX_ERRORS: Final = 4
"""Most error lines of a failed ncu that go into the reason."""
PERMISSION: Final = "ERR_NVGPUCTRPERM"
_TRIAL: Final = re.compile(r"\btrial (\d+)\b")
"""Matches the trial's range in any column in which ncu lists the ranges of a kernel."""


class UnavailableError(Exception):
    """Counters are unavailable; the message has the reason and a fix."""


class ProgramError(UnavailableError):
    """ncu failed on this program, and may succeed on a different one, such as fewer trials."""


@dataclass(frozen=True)
class Counters:
    """Hardware counters of one call, summed over its launches. A sector is 32 bytes.

    Args:
        launches: kernels that ncu profiled.
        dram_read_bytes: bytes read from DRAM into the L2.
        dram_write_bytes: bytes written from the L2 to DRAM.
        l2_read_sectors: sectors read at the L2, by any unit of the GPU.
        l2_write_sectors: sectors written at the L2, by any unit of the GPU.
        load_sectors: sectors of global loads at the L1.
        store_sectors: sectors of global stores at the L1.
        load_requests: requests of global loads at the L1.
        store_requests: requests of global stores at the L1.
    """

    launches: int
    dram_read_bytes: int
    dram_write_bytes: int
    l2_read_sectors: int
    l2_write_sectors: int
    load_sectors: int
    store_sectors: int
    load_requests: int
    store_requests: int


def find() -> Path:
    """Find Nsight Compute on a machine with a GPU.

    Raises:
        UnavailableError: ncu or the GPU is missing.
    """
    if reason := cuda_unavailable_reason():
        raise UnavailableError(reason)
    path = executables.find_ncu()
    if path is None:
        raise UnavailableError(f"ncu was not found; fix: {INSTALL['ncu']}")
    return path


def command(ncu: Path, cache: CacheControl, log: Path, program: Sequence[str]) -> list[str]:
    """The command line that profiles the ``measure`` range of a program.

    Args:
        ncu: path of Nsight Compute.
        cache: how ncu treats the caches.
        log: file for ncu's output, separate from the output of the program.
        program: command line of the program to profile.
    """
    options = {
        "--page": "raw",
        "--print-units": "base",
        "--metrics": ",".join(METRICS.values()),
        "--nvtx-include": f"{DOMAIN}@{RANGE}/",
        "--clock-control": "none",
        "--cache-control": cache,
        "--log-file": str(log),
    }
    words = [word for option in options.items() for word in option]
    return [str(ncu), "--csv", "--nvtx", *words, *program]


def measure(
    ncu: Path, cache: CacheControl, program: Sequence[str], trials: int = 1
) -> list[Counters | None]:
    """Profile a program that makes one call per trial inside the range ``measure``.

    Args:
        ncu: path of Nsight Compute.
        cache: how ncu treats the caches.
        program: command line of the program to profile.
        trials: number of its calls, each in a range ``trial 0``, ``trial 1`` and so on.

    Returns:
        The counters of each trial; None for a trial in which ncu profiled no kernel.

    Raises:
        UnavailableError: ncu cannot be run, is not permitted to read counters, or profiled no
            kernel at all.
        ProgramError: ncu failed, took too long, or does not separate the trials.
    """
    limit = LIMIT_SECONDS * trials
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        # other locales may write 1.024 for 1,024
        environment = os.environ | {"LC_ALL": "C", "NUMBA_ENABLE_CUDASIM": "0"}
        try:
            process = subprocess.run(
                command(ncu, cache, log, program),
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=limit,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"ncu took over {limit:g} s; try a smaller case") from error
        except OSError as error:
            raise UnavailableError(f"ncu: {ncu} can't be run: {error.strerror}") from error
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return read(text, process.stdout + process.stderr, process.returncode, trials)


def read(
    text: str, output: str = "", returncode: int = 0, trials: int = 1
) -> list[Counters | None]:
    """Read the counters of each trial from the results of ncu.

    Args:
        text: ncu's log.
        output: stdout and stderr of ncu and the program.
        returncode: ncu's exit code.
        trials: number of calls that the program made.

    Returns:
        As for ``measure``.

    Raises:
        UnavailableError: as for ``measure``.
        ProgramError: as for ``measure``.
    """
    if PERMISSION in text or PERMISSION in output:
        raise UnavailableError(
            f"ncu is not permitted to read counters ({PERMISSION}); fix: {FIX_COUNTERS}"
        )
    if returncode != 0:
        raise ProgramError(f"ncu failed with exit code {returncode}: {_errors(text, output)}")
    kernels = parse(text)
    if not kernels:
        raise UnavailableError(
            f"ncu found no kernel in the NVTX range {DOMAIN}@{RANGE}; "
            "fix: install a newer Nsight Compute"
        )
    by_trial: list[list[Kernel]] = [[] for _ in range(trials)]
    for kernel in kernels:
        number = 0 if trials == 1 else kernel.trial
        if number is None or number >= trials:
            raise ProgramError("ncu does not report which kernel ran in which NVTX range")
        by_trial[number].append(kernel)
    return [_sum(kernels) if kernels else None for kernels in by_trial]


@dataclass(frozen=True)
class Kernel:
    """One kernel in ncu's output.

    Args:
        trial: the number in the name of its range; None if ncu does not report a range.
        values: counters, by the field of ``Counters``.
    """

    trial: int | None
    values: Mapping[str, int]


def _sum(kernels: Sequence[Kernel]) -> Counters:
    totals = {field: sum(kernel.values[field] for kernel in kernels) for field in METRICS}
    return Counters(launches=len(kernels), **totals)


def _errors(text: str, output: str) -> str:
    """The first error lines of ncu, from its log or its output, and the last line of both."""
    lines = [line.strip() for line in (text + "\n" + output).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("==ERROR==")][:MAX_ERRORS]
    return "; ".join(dict.fromkeys([*errors, *lines[-1:]])) or "no message"


def parse(text: str) -> list[Kernel]:
    """Parse ncu's raw page in CSV.

    Returns:
        The kernels, in order, with the counters of ``METRICS``.

    Raises:
        UnavailableError: a metric is missing or has an unknown unit; the message names the metric.
        ProgramError: the page is cut off or damaged, or the counter of a kernel is not a number.
    """
    try:
        page = ncu_page.parse(text)
    except ncu_page.PageError as error:
        raise ProgramError(f"ncu printed a page that can't be read: {error}") from None
    return [] if page is None else [_kernel(cells, page) for cells in page.kernels]


def _kernel(cells: Mapping[str, str], page: ncu_page.Page) -> Kernel:
    matches = (_TRIAL.search(cell) for cell in cells.values())
    trial = next((int(match[1]) for match in matches if match), None)
    return Kernel(trial, {field: _number(metric, cells, page) for field, metric in METRICS.items()})


def _number(metric: str, cells: Mapping[str, str], page: ncu_page.Page) -> int:
    if metric not in cells:
        raise UnavailableError(
            f"ncu reported no {metric}; fix: install an Nsight Compute that supports this GPU"
        )
    unit = page.units[metric]
    if unit not in UNITS:
        raise UnavailableError(
            f"ncu reported {metric} in {unit!r}, expected one of {_listed(UNITS)}"
        )
    try:
        return page.whole_number(cells, metric, UNITS[unit])
    except ValueError as error:
        raise ProgramError(f"ncu reported {cells[metric]!r} for {metric}: {error}") from None


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word for word in words if word)
