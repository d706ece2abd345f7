"""Run the profilers, and read their files into traces."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from gspn2bench.errors import UsageError
from gspn2bench.nvtx_ranges import DOMAIN
from gspn2bench.profile import ncu, nsys
from gspn2bench.profile.command import (
    RANGE,
    SUFFIX,
    ProfileJob,
    help_command,
    missing_flags,
)
from gspn2bench.profile.trace import ProfilerTrace, Tool, UnreadableError, one_line
from gspn2bench.system import executables, nvtx_probe
from gspn2bench.system.executables import INSTALL

HELP_SECONDS: Final = 60.0
EXPORT_SECONDS: Final = 600.0
LAST_LINES: Final = 12
FIRST_LINES: Final = 6


class ProfilerError(Exception):
    """A profiler or its program ended without a report; the message has the last lines."""


def find(tool: Tool) -> Path | None:
    """The path of the tool; None if it is not installed."""
    return executables.find_nsys() if tool == "nsys" else executables.find_ncu()


def check(tool: Tool, executable: Path) -> None:
    """Check that the installed version has all options that are used, and that it sees ranges.

    Raises:
        UsageError: the tool can't be run, lacks an option, or does not record the ranges of the
            installed nvtx. The message has the option or a fix.
    """
    try:
        text = _output(help_command(tool, str(executable)), HELP_SECONDS)
    except ProfilerError as error:
        raise UsageError(f"--tool: {executable} does not print its help: {error}") from error
    if missing := missing_flags(tool, text):
        raise UsageError(
            f"--tool: {executable} does not know {', '.join(missing)}; fix: {INSTALL[tool]}"
        )
    if tool == "nsys" and (reason := nvtx_probe.silent_reason(executable)):
        raise UsageError(f"--tool: {executable}: {reason}; fix: {nvtx_probe.FIX}")


def run(job: ProfileJob) -> None:
    """Run one job; its output goes to a .log file next to its report.

    Raises:
        ProfilerError: the job left no report.
    """
    log = job.report.with_suffix(".log")
    with log.open("w", encoding="utf-8") as out:
        try:
            result = subprocess.run(job.command, stdout=out, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise ProfilerError(f"{job.command[0]} can't be run: {error.strerror}") from error
    if not job.report.is_file():
        hint = _missing_reason(job, result.returncode)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = "\n".join(lines[-LAST_LINES:])
        raise ProfilerError(f"no {job.report.name}, exit code {result.returncode}{hint}\n{last}")


def _missing_reason(job: ProfileJob, code: int) -> str:
    """Why there is no report, as far as the files and the exit code say; it begins with "; "."""
    raw = job.report.with_suffix(".qdstrm")
    if raw.is_file():
        return (
            f"; it left {raw}: this nsys has no importer, so import it with a full Nsight Systems "
            "of the same version: see docs/profiling.md"
        )
    if job.report.suffix == SUFFIX["nsys"] and code == 0:
        return (
            f"; nsys saw no range {RANGE}@{DOMAIN}, and captured nothing: an nsys before 2025 does "
            f"not record the ranges of a newer nvtx; fix: {nvtx_probe.FIX}"
        )
    return ""


def read(file: Path) -> ProfilerTrace:
    """Read a file of a profiler: .sqlite or .csv, or a report, which its tool exports first.

    Raises:
        UsageError: the file does not exist, has a different type or is damaged, or its tool is
            missing or fails. The message names this file, never a temporary export.
    """
    if not file.is_file():
        raise UsageError(f"profile: {file} is not a file")
    readers = {
        ".sqlite": nsys.read,
        ".csv": ncu.read,
        ".nsys-rep": _read_nsys_report,
        ".ncu-rep": _read_ncu_report,
    }
    if file.suffix not in readers:
        raise UsageError(f"profile: {file} does not end in any of {', '.join(readers)}")
    try:
        return readers[file.suffix](file)
    except UnreadableError as error:
        raise UsageError(f"profile: {file}: {one_line(str(error))}") from error


def _read_nsys_report(file: Path) -> ProfilerTrace:
    by_hand = f"nsys export --type sqlite {file}"
    executable = _required("nsys", file, by_hand)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "export.sqlite"
        command = [executable, "export", "--type", "sqlite", "--output", str(database), str(file)]
        try:
            _export(command, by_hand)
        except UnreadableError as error:
            text = str(error).replace(str(database), "the export")
            raise UnreadableError(text.replace(folder, "a temporary folder")) from error
        if not database.is_file():
            raise UnreadableError(f"nsys wrote no export; try {by_hand}")
        return nsys.read(database)


def _read_ncu_report(file: Path) -> ProfilerTrace:
    # the page has columns of ranges if they were collected; --nvtx is an option of collection
    words = ["--csv", "--page", "raw", "--print-units", "base"]
    by_hand = f"ncu --import {file} {' '.join(words)} > {file.with_suffix('.csv')}"
    executable = _required("ncu", file, by_hand)
    return ncu.parse(_export([executable, "--import", str(file), *words], by_hand))


def _required(tool: Tool, file: Path, by_hand: str) -> str:
    path = find(tool)
    if path is None:
        raise UsageError(
            f"profile: {file.name} needs {tool}, which was not found; fix: {INSTALL[tool]}, or "
            f"export it on a machine that has {tool} and copy the result here: {by_hand}"
        )
    return str(path)


def _export(command: list[str], by_hand: str) -> str:
    try:
        return _output(command, EXPORT_SECONDS)
    except ProfilerError as error:
        raise UnreadableError(f"the export failed: {error}; try {by_hand}") from error


def _output(command: list[str], seconds: float) -> str:
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},  # other locales may write 778.240 for 778,240
        )
    except subprocess.TimeoutExpired as error:
        raise ProfilerError(f"{command[0]} took more than {seconds:g} s") from error
    except OSError as error:
        raise ProfilerError(f"{command[0]} can't be run: {error.strerror}") from error
    if result.returncode != 0:
        raise ProfilerError(_error_lines(result))
    return result.stdout + result.stderr


def _error_lines(result: "subprocess.CompletedProcess[str]") -> str:
    """The first lines of both streams, because ncu prints errors on stdout; or the exit code."""
    lines: list[str] = []
    for stream in (result.stdout, result.stderr):
        lines += [line.strip() for line in stream.splitlines() if line.strip()][:FIRST_LINES]
    return "; ".join(lines) or f"exit code {result.returncode}"
