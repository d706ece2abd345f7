"""Global-memory traffic from hardware counters: Nsight Compute, in a process of its own.

ncu runs one program that makes one call for each trial inside the NVTX range ``measure``, and
writes a line for each kernel of it; the lines of a trial are summed. It runs a kernel several times
to read all counters, so that no latency of such a run is worth keeping.
"""

import csv
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gspn2bench.nvtx_ranges import DOMAIN, RangeName
from gspn2bench.system import executables
from gspn2bench.system.doctor import MEND_COUNTERS, MEND_NCU
from gspn2bench.system.environment import find_cuda

CacheControl = Literal["none", "all"]
"""Whether ncu leaves the caches as they are, or flushes them before each kernel and each pass."""

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
"""ncu's metrics by the field of ``Counters``."""
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
"""Longest time for one trial; a process of several has as many times that."""
FIRST_LINES: Final = 4
"""Of what ncu printed before it failed, kept as the reason."""
PERMISSION: Final = "ERR_NVGPUCTRPERM"
_TRIAL: Final = re.compile(r"\btrial (\d+)\b")
"""In whichever column ncu lists the ranges of a kernel."""


class UnavailableError(Exception):
    """There are no counters to be had; the message says why, and how to mend it."""


class ProgramError(UnavailableError):
    """It failed on this program, and may do well on another, such as a part of it."""


@dataclass(frozen=True)
class Counters:
    """What the hardware counted in one call, summed over its launches.

    Args:
        launches: kernels that ncu saw.
        dram_read_bytes: from DRAM to the L2.
        dram_write_bytes: from the L2 to DRAM.
        l2_read_sectors: sectors of 32 bytes read at the L2, by whatever part of the GPU.
        l2_write_sectors: likewise, written.
        load_sectors: sectors of global loads at the L1.
        store_sectors: of global stores.
        load_requests: global loads of warps at the L1.
        store_requests: global stores.
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
    """Nsight Compute, where a GPU is to be profiled too.

    Raises:
        UnavailableError: one of the two is missing.
    """
    if reason := find_cuda():
        raise UnavailableError(reason)
    path = executables.find_ncu()
    if path is None:
        raise UnavailableError(f"ncu was not found; to mend: {MEND_NCU}")
    return path


def command(ncu: Path, cache: CacheControl, log: Path, program: Sequence[str]) -> list[str]:
    """The command line that profiles a program's ``measure`` range.

    Args:
        ncu: Nsight Compute's command line.
        cache: what ncu does with the caches.
        log: file for what ncu prints, so that the program's own output is not in it.
        program: to be profiled, with its arguments.
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
    """Profile a program that makes one call for each trial inside the range ``measure``.

    Args:
        ncu: Nsight Compute's command line.
        cache: what ncu does with the caches.
        program: to be profiled, with its arguments.
        trials: calls that it makes, each in a range ``trial 0``, ``trial 1`` and so on.

    Returns:
        The counters of each trial; None where ncu saw no kernel of one.

    Raises:
        UnavailableError: ncu can't be run, may not read counters, or saw no kernel at all.
        ProgramError: it failed, took too long, or does not tell the trials apart.
    """
    limit = LIMIT_SECONDS * trials
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        # another locale may write 1.024 for 1,024
        environment = os.environ | {"LC_ALL": "C", "NUMBA_ENABLE_CUDASIM": "0"}
        try:
            done = subprocess.run(
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
    return read(text, done.stdout + done.stderr, done.returncode, trials)


def read(
    text: str, output: str = "", returncode: int = 0, trials: int = 1
) -> list[Counters | None]:
    """The counters in what ncu left behind, by trial.

    Args:
        text: its log.
        output: what it and the program printed.
        returncode: its exit code.
        trials: calls that the program made.

    Raises:
        UnavailableError: as ``measure``.
    """
    if PERMISSION in text or PERMISSION in output:
        raise UnavailableError(
            f"ncu may not read counters ({PERMISSION}); to mend: {MEND_COUNTERS}"
        )
    if returncode != 0:
        raise ProgramError(f"ncu ended with {returncode}: {_said(text, output)}")
    kernels = parse(text)
    if not kernels:
        raise UnavailableError(
            f"ncu saw no kernel in the NVTX range {DOMAIN}@{RANGE}; to mend: a newer ncu"
        )
    seen: list[list[Kernel]] = [[] for _ in range(trials)]
    for kernel in kernels:
        number = 0 if trials == 1 else kernel.trial
        if number is None or number >= trials:
            raise ProgramError("ncu does not say which kernel lies in which NVTX range")
        seen[number].append(kernel)
    return [_sum(each) if each else None for each in seen]


@dataclass(frozen=True)
class Kernel:
    """A line of ncu's.

    Args:
        trial: the number in the name of its range; None where ncu does not say.
        values: by the field of ``Counters``.
    """

    trial: int | None
    values: Mapping[str, int]


def _sum(kernels: Sequence[Kernel]) -> Counters:
    totals = {field: sum(kernel.values[field] for kernel in kernels) for field in METRICS}
    return Counters(launches=len(kernels), **totals)


def _said(text: str, output: str) -> str:
    """The first of ncu's own errors, which may be in its log or on stdout, and the last line."""
    lines = [line.strip() for line in (text + "\n" + output).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("==ERROR==")][:FIRST_LINES]
    return "; ".join(dict.fromkeys([*errors, *lines[-1:]])) or "no message"


def parse(text: str) -> list[Kernel]:
    """The fields of ``METRICS`` of each kernel in ncu's raw page as CSV, and its trial.

    The page has a line of names, a line of units and a line for each kernel; ncu's own messages
    begin with "==".

    Raises:
        UnavailableError: a metric is missing or has an unknown unit; it is named.
        ProgramError: a kernel has no number for it.
    """
    table = csv.reader(line for line in text.splitlines() if line.startswith('"'))
    names = next((line for line in table if "Kernel Name" in line), None)
    units = next(table, None)
    if names is None or units is None:
        return []
    unit_of = dict(zip(names, units, strict=False))
    return [_kernel(dict(zip(names, line, strict=False)), unit_of) for line in table]


def _kernel(cells: Mapping[str, str], units: Mapping[str, str]) -> Kernel:
    found = (_TRIAL.search(cell) for cell in cells.values())
    number = next((int(match[1]) for match in found if match), None)
    return Kernel(
        number, {field: _number(metric, cells, units) for field, metric in METRICS.items()}
    )


def _number(metric: str, values: Mapping[str, str], units: Mapping[str, str]) -> int:
    if metric not in values:
        raise UnavailableError(
            f"ncu gave no {metric}; to mend: a Nsight Compute that knows the GPU"
        )
    unit, text = units.get(metric, ""), values[metric]
    if unit not in UNITS:
        raise UnavailableError(f"ncu gave {metric} in {unit!r}, not in one of {_listed(UNITS)}")
    try:
        return round(float(text.replace(",", "")) * UNITS[unit])
    except (ValueError, OverflowError):
        raise ProgramError(f"ncu gave {text!r} for {metric}") from None


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word for word in words if word)
