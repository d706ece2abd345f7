"""The command line as a user meets it: a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# -P: the installed package, not the source tree in the current folder
MODULE = [sys.executable, "-P", "-m", "gspn2bench"]
COMMANDS = [
    "sweep",
    "report",
    "show",
    "compare",
    "traffic",
    "profile",
    "ingest",
    "list",
    "doctor",
]


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_half_a_second_and_80_columns(command: str) -> None:
    times = []
    for _ in range(12):  # the least: other processes take their share of a busy machine
        start = time.perf_counter()
        done = run([*MODULE, command, "--help"])
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        if times[-1] < 0.5:
            break
    assert min(times) < 0.5
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_names_every_command_and_shows_brackets() -> None:
    done = run([*MODULE, "--help"])
    assert all(command in done.stdout for command in COMMANDS)
    assert "channels[pow2]=[0:3]" in run([*MODULE, "sweep", "--help"]).stdout.replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "figg3"],
        ["sweep", "quick", "--samples", "0"],
        ["sweep"],
        ["report", "no-such-run"],
        ["show", "no-such-run"],
        ["sweeep"],
    ],
)
def test_usage_errors_exit_with_2_and_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    done = run([*MODULE, *arguments], cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not list(tmp_path.iterdir())


def test_the_bare_checkout_runs(tmp_path: Path) -> None:
    done = run([sys.executable, str(ROOT / "cli.py"), "list", "--plain"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"r01", "r07", "quick", "fig3"} <= set(done.stdout.split())


def test_from_sweep_to_report_in_two_commands(tmp_path: Path) -> None:
    narrow = ["--device", "sim", "-a", "batch=1", "-a", "size=4", "--rung", "r07"]
    swept = run([*MODULE, "sweep", "quick", *narrow], cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    shown = run([*MODULE, "show", "latest"], cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "r07" in shown.stdout
    reported = run([*MODULE, "report", "latest"], cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    page = tmp_path / reported.stdout.strip()
    assert page.is_file()
    assert page.stat().st_size < 6e6
