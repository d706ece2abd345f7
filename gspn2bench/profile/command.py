"""The command lines that profile a scenario, one per case and rung.

Each trial has its own process, because both tools count per process: Nsight Systems stops at the
end of its first capture range, and Nsight Compute's launch count applies to the first kernels.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import gspn2bench
from gspn2bench.cases.axes import NONE
from gspn2bench.cases.scenario import Case
from gspn2bench.nvtx_ranges import DOMAIN, RangeName
from gspn2bench.profile.trace import Tool
from gspn2bench.records.schema import Timing
from gspn2bench.system.executables import PROFILED

RANGE: Final[RangeName] = "measure"
RUNS: Final = "not-a-measurement"
"""Folder for the runs of profiled sweeps; the profiler's overhead distorts their latencies."""
LIMIT_SECONDS: Final = 3600
FLAGS: Final[dict[Tool, tuple[str, ...]]] = {
    "nsys": (
        "--trace",
        "--sample",
        "--cpuctxsw",
        "--capture-range",
        "--nvtx-capture",
        "--capture-range-end",
        "--cuda-graph-trace",
        "--output",
    ),
    "ncu": (
        "--target-processes",
        "--nvtx",
        "--nvtx-include",
        "--clock-control",
        "--set",
        "--launch-count",
        "--export",
    ),
}
"""Long names of the options used, as listed by ``nsys profile --help`` and ``ncu --help``."""
SUFFIX: Final[dict[Tool, str]] = {"nsys": ".nsys-rep", "ncu": ".ncu-rep"}


@dataclass(frozen=True)
class Request:
    """The trials to profile, and how.

    Args:
        tool: nsys or ncu.
        scenario: a name, or the path of a .toml file.
        trials: pairs of a case and a rung, in order; a rung is an id or the path of a .py file.
        timing: latency mode of the calls: eager or graph.
        launches: kernels per trial that ncu profiles; it replays each of them dozens of times.
        folder: folder for all output.
    """

    tool: Tool
    scenario: str
    trials: tuple[tuple[Case, str], ...]
    timing: Timing
    launches: int
    folder: Path


@dataclass(frozen=True)
class ProfileJob:
    """The command that profiles one trial.

    Args:
        name: name of the trial in messages.
        command: the words of the command line.
        report: the file that the tool writes.
        runs: the folder that will contain the run folder of the profiled sweep.
    """

    name: str
    command: list[str]
    report: Path
    runs: Path


def profile_jobs(
    request: Request, executable: str, python: Sequence[str] | None = None
) -> list[ProfileJob]:
    """The jobs of a request, in the order of its trials.

    Args:
        request: the trials to profile.
        executable: path of the tool.
        python: the words that run gspn2bench; by default, those of this process.
    """
    return list(_jobs(request, executable, list(python or own_program())))


def missing_flags(tool: Tool, help_text: str) -> list[str]:
    """The options that ``profile_jobs`` uses and the tool's help does not list."""
    listed = set(re.findall(r"--[a-z][a-z-]*", help_text))
    return [flag for flag in FLAGS[tool] if flag not in listed]


def help_command(tool: Tool, executable: str) -> list[str]:
    """The command that prints the help for ``missing_flags``."""
    return [executable, *(["profile"] if tool == "nsys" else []), "--help"]


def own_program() -> list[str]:
    """The words that run the gspn2bench of this process."""
    if len(gspn2bench.__path__) > 1:  # a checkout that is not installed runs through cli.py
        return [sys.executable, str(Path(gspn2bench.__file__).parents[1] / "cli.py")]
    return [sys.executable, "-P", "-m", "gspn2bench"]


def _jobs(request: Request, executable: str, python: list[str]) -> Iterator[ProfileJob]:
    digits = max(2, len(str(len(request.trials))))
    for number, (case, rung) in enumerate(request.trials, 1):
        stem = f"{number:0{digits}}-{re.sub(r'[^A-Za-z0-9_-]', '_', Path(rung).stem)}"
        runs = request.folder / RUNS / stem
        sweep = [*python, "sweep", request.scenario, "--rung", rung, *_axes(case)]
        sweep += ["--timing", request.timing, "--samples", "1", "--device", "cuda"]
        sweep += ["--limit", str(LIMIT_SECONDS), "--results", str(runs)]
        options = _nsys if request.tool == "nsys" else _ncu
        command = [executable, *options(request, request.folder / stem), *sweep]
        yield ProfileJob(
            name=f"{rung} {case.label} {case.phase}",
            command=["env", f"{PROFILED}={request.tool}", *command],
            report=request.folder / (stem + SUFFIX[request.tool]),
            runs=runs,
        )


def _axes(case: Case) -> Iterator[str]:
    """Every field of a case as an axis, which limits the sweep to this case."""
    for name, value in asdict(case).items():
        yield "-a"
        yield f"{name}={NONE if value is None else value}"


def _nsys(request: Request, stem: Path) -> list[str]:  # noqa: ARG001
    words = ["profile", "-t", "cuda,nvtx", "-s", "none", "--cpuctxsw=none"]
    words += ["-c", "nvtx", "-p", f"{RANGE}@{DOMAIN}", "--capture-range-end=stop"]
    return [*words, "--cuda-graph-trace=node", "-o", str(stem)]


def _ncu(request: Request, stem: Path) -> list[str]:
    words = ["--target-processes", "all", "--nvtx", "--nvtx-include", f"{DOMAIN}@{RANGE}/"]
    words += ["--clock-control", "none", "--set", "full"]
    return [*words, "--launch-count", str(request.launches), "-o", str(stem)]
