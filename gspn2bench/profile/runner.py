"""Running the profilers, and turning the files that they leave into traces."""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from gspn2bench.errors import UsageError
from gspn2bench.profile import ncu, nsys
from gspn2bench.profile.command import ProfileJob, help_command, missing_flags
from gspn2bench.profile.trace import ProfilerTrace, Tool, UnreadableError
from gspn2bench.system import executables
from gspn2bench.system.executables import INSTALL

HELP_SECONDS: Final = 60.0
EXPORT_SECONDS: Final = 600.0
LAST_LINES: Final = 12
FIRST_LINES: Final = 6


class ProfilerError(Exception):
    """A profiler or what it ran ended without a report; the message holds its last lines."""


def find(tool: Tool) -> Path | None:
    """The tool's command line; None if there is none."""
    return executables.find_nsys() if tool == "nsys" else executables.find_ncu()


def check(tool: Tool, executable: Path) -> None:
    """Hold the installed version to the options that are used.

    Raises:
        UsageError: it can't be run, or does not know an option; the option is named.
    """
    try:
        text = _output(help_command(tool, str(executable)), HELP_SECONDS)
    except ProfilerError as error:
        raise UsageError(f"--tool: {executable} does not print its help: {error}") from error
    if missing := missing_flags(tool, text):
        raise UsageError(
            f"--tool: {executable} does not know {', '.join(missing)}; fix: {INSTALL[tool]}"
        )


def run(job: ProfileJob) -> None:
    """Run one job; what it prints goes to a .log file beside its report.

    Raises:
        ProfilerError: there is no report afterwards.
    """
    log = job.report.with_suffix(".log")
    with log.open("w", encoding="utf-8") as out:
        try:
            done = subprocess.run(job.command, stdout=out, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise ProfilerError(f"{job.command[0]} can't be run: {error.strerror}") from error
    if not job.report.is_file():
        raw = job.report.with_suffix(".qdstrm")
        hint = (
            f"; {raw} is there: this nsys has no importer, import it with a full Nsight Systems"
            if raw.is_file()
            else ""
        )
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = "\n".join(said[-LAST_LINES:])
        raise ProfilerError(f"no {job.report.name}, exit code {done.returncode}{hint}\n{last}")


def read(file: Path) -> ProfilerTrace:
    """Read a file of a profiler: .sqlite or .csv, or a report that its tool exports first.

    Raises:
        UsageError: another kind of file, not there, damaged, or its tool is missing or fails; the
            message names this file, and never an export that the tool made of it.
    """
    if not file.is_file():
        raise UsageError(f"profile: {file} is no file")
    readers = {
        ".sqlite": nsys.read,
        ".csv": ncu.read,
        ".nsys-rep": _read_nsys_report,
        ".ncu-rep": _read_ncu_report,
    }
    if file.suffix not in readers:
        raise UsageError(f"profile: {file} ends in none of {', '.join(readers)}")
    try:
        return readers[file.suffix](file)
    except UnreadableError as error:
        raise UsageError(f"profile: {file}: {error}") from error


def _read_nsys_report(file: Path) -> ProfilerTrace:
    by_hand = f"nsys export --type sqlite {file}"
    executable = _needed("nsys", file, by_hand)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "export.sqlite"
        command = [executable, "export", "--type", "sqlite", "--output", str(made), str(file)]
        try:
            _export(command, by_hand)
        except UnreadableError as error:
            said = str(error).replace(str(made), "the export")
            raise UnreadableError(said.replace(folder, "a temporary folder")) from error
        if not made.is_file():
            raise UnreadableError(f"nsys made no export; try {by_hand}")
        return nsys.read(made)


def _read_ncu_report(file: Path) -> ProfilerTrace:
    # the page has the ranges as columns where they were collected; --nvtx is for collecting
    words = ["--csv", "--page", "raw", "--print-units", "base"]
    by_hand = f"ncu --import {file} {' '.join(words)} > {file.with_suffix('.csv')}"
    executable = _needed("ncu", file, by_hand)
    return ncu.parse(_export([executable, "--import", str(file), *words], by_hand))


def _needed(tool: Tool, file: Path, by_hand: str) -> str:
    path = find(tool)
    if path is None:
        raise UsageError(
            f"profile: {file.name} needs {tool}, which was not found; fix: {INSTALL[tool]}, or "
            f"export it where {tool} is, and bring the result: {by_hand}"
        )
    return str(path)


def _export(command: list[str], by_hand: str) -> str:
    try:
        return _output(command, EXPORT_SECONDS)
    except ProfilerError as error:
        raise UnreadableError(f"the export failed: {error}; try {by_hand}") from error


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise ProfilerError(f"{command[0]} took over {seconds:g} s") from error
    except OSError as error:
        raise ProfilerError(f"{command[0]} can't be run: {error.strerror}") from error
    if done.returncode != 0:
        raise ProfilerError(_complaint(done))
    return done.stdout + done.stderr


def _complaint(done: "subprocess.CompletedProcess[str]") -> str:
    """The first lines of each stream, for ncu prints its errors on stdout; or the exit code."""
    said: list[str] = []
    for stream in (done.stdout, done.stderr):
        said += [line.strip() for line in stream.splitlines() if line.strip()][:FIRST_LINES]
    return "; ".join(said) or f"exit code {done.returncode}"
