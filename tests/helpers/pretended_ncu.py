"""A stand-in for ncu: pages in the format of its manual, and programs that print them."""

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from gspn2bench.traffic import counters
from gspn2bench.traffic.counters import METRICS

FACTS = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream")
KERNEL = ("4711", "python3", "127.0.0.1", "r01_line_launch_forward", "1", "7")


def csv_line(words: Any) -> str:
    return ",".join(f'"{word}"' for word in words)


RANGES = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"


def in_ranges(page: str, *trials: int | None) -> str:
    """A raw page with the column of ranges, which names the trial of each kernel."""
    cells = [
        "" if n is None else f'140  ""gspn2bench:measure:none"" ""gspn2bench:trial {n}:none""'
        for n in trials
    ]
    column = iter([RANGES, "", *cells])
    lines = page.splitlines(keepends=True)
    return "".join(
        line.rstrip("\n") + f',"{next(column)}"\n' if line.startswith('"') else line
        for line in lines
    )


def raw_page(*kernels: tuple[str, ...], units: dict[str, str] | None = None) -> str:
    """The output of ``ncu --csv --page raw``, with the metrics sorted by name as ncu does."""
    metrics = sorted(METRICS.values())
    unit_of = {m: "byte" if "bytes" in m else "sector" if "sectors" in m else "" for m in metrics}
    unit_of |= units or {}
    lines = [csv_line((*FACTS, *metrics)), csv_line((*[""] * len(FACTS), *unit_of.values()))]
    lines += [csv_line((i, *KERNEL, *values)) for i, values in enumerate(kernels)]
    messages = ["==PROF== Connected to process 4711", '==PROF== Profiling "r01": 0%....100%']
    return "\n".join([*messages, *lines, "==PROF== Disconnected from process 4711", ""])


ONE = ("1,024", "512", "20", "10", "3,200.000000", "320", "40", "30")
"""By metric name: DRAM read, write; requests ld, st; sectors ld, st; L2 read, write."""


def fake_ncu(folder: Path, page: str, code: int = 0) -> Path:
    """A program that writes the page to its log file and its own command line to ``heard``."""
    path = folder / "ncu"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys\n"
        "log = sys.argv[sys.argv.index('--log-file') + 1]\n"
        f"pathlib.Path(log).write_text({page!r})\n"
        f"heard = [sys.argv, os.environ['LC_ALL']]\n"
        f"pathlib.Path({str(folder / 'heard')!r}).write_text(json.dumps(heard))\n"
        f"sys.exit({code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def playing_ncu(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str = "False") -> Path:
    """An ncu that profiles one kernel per trial, and fails if ``fails`` is true.

    ``fails`` is an expression over ``trials``. The K-th trial of a process reads K bytes. Each
    process appends a line with its trials to the returned file.
    """
    page = in_ranges(raw_page(*((str(k), *ONE[1:]) for k in range(9))), *range(9))
    path = folder / "ncu"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "listed = json.loads(sys.argv[-1])['trials']\n"
        "trials = [f'{rung}:{case[\"height\"]}' for case, rung in listed]\n"
        f"with open({str(folder / 'jobs')!r}, 'a') as jobs: print(*trials, file=jobs)\n"
        "log = sys.argv[sys.argv.index('--log-file') + 1]\n"
        f"if {fails}: sys.exit('CUDA error: an illegal memory access')\n"
        f"lines = {page!r}.splitlines(keepends=True)\n"
        "pathlib.Path(log).write_text(''.join(lines[: 4 + len(trials)]))\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(counters, "find", lambda: path)
    return folder / "jobs"
