"""The command line as a user meets it: a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench.app import app
from gspn2bench.baselines.modules import MODULES
from gspn2bench.baselines.scans import SCANS
from gspn2bench.cases import scenario
from gspn2bench.kernels.ladder import LADDER

from ..helpers.report_fixtures import real_run, save, simulated_run

ROOT = Path(__file__).resolve().parents[2]
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
    "trace",
    "list",
    "doctor",
]


def run(
    command: list[str], more: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"} | (more or {})
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **options
    )  # type: ignore[call-overload,no-any-return]


def complete(words: str, cwd: Path) -> list[str]:
    """What bash is offered for the last word of a command line."""
    state = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    state["_GSPN2BENCH_COMPLETE"] = "complete_bash"
    command = [str(Path(sys.executable).with_name("gspn2bench"))]
    return run(command, cwd=cwd, more=state).stdout.splitlines()


def within_half_a_second(arguments: list[str]) -> str:
    """The output of a command, which must fit 80 columns.

    Its processor time counts, since other processes take their share of a busy machine; the least
    of three, since they take the caches too.
    """
    seconds = []
    for _ in range(3):
        before = processor_time()
        done = run([*MODULE, *arguments])
        seconds.append(processor_time() - before)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.5
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


def processor_time() -> float:
    """Seconds that the processes run so far have computed."""
    spent = os.times()
    return spent.children_user + spent.children_system


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_half_a_second_and_80_columns(command: str) -> None:
    within_half_a_second([command, "--help"])


def test_without_a_command_the_first_ones_are_named_at_once() -> None:
    shown = re.findall(r"^  gspn2bench (.+?)  ", within_half_a_second([]), re.MULTILINE)
    assert shown == ["doctor", "sweep quick", "show latest", "report latest"]
    assert {line.split()[0] for line in shown} <= set(COMMANDS)
    assert "quick" in scenario.names()


def test_the_shell_is_offered_every_name(tmp_path: Path) -> None:
    save(real_run(), tmp_path / "results")
    save(simulated_run(), tmp_path / "elsewhere")
    assert complete("gspn2bench sweep ", tmp_path) == scenario.names()
    known = sorted([*LADDER, *SCANS, *MODULES])
    assert complete("gspn2bench sweep fig3 --rung ", tmp_path) == known
    others = [f"r01,{rung}" for rung in known if rung.startswith("r0") and rung != "r01"]
    assert complete("gspn2bench sweep fig3 --rung r01,r0", tmp_path) == others
    assert complete("gspn2bench show f", tmp_path) == [real_run().record.run_id]
    assert complete("gspn2bench sweep fig3 --timing eager,", tmp_path) == [
        "eager,device",
        "eager,graph",
    ]
    assert complete("gspn2bench sweep fig3 --device ", tmp_path) == ["auto", "cuda", "sim"]
    assert complete("gspn2bench profile fig3 --tool n", tmp_path) == ["nsys", "ncu"]
    elsewhere = "gspn2bench compare --results elsewhere latest "
    assert complete(elsewhere, tmp_path) == ["latest", simulated_run().record.run_id]


@pytest.mark.parametrize("name", ["latest", "quick-2026", "quick-20260101T000000Z-51a71d"])
def test_a_run_is_named_by_its_name_a_prefix_or_latest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        return f"{done.stdout}{done.exception}"

    old = save(real_run(), tmp_path / "results") / "run.json"
    os.utime(old, (1, 1))
    run_id = save(simulated_run(), tmp_path / "results").name
    monkeypatch.chdir(tmp_path)
    assert f'"run": "{run_id}"' in said("show", name, "--json")
    assert f"{run_id} is simulated" in said("compare", "fixture", name)
    assert f"--resume: {run_id} has no plan" in said("sweep", "--resume", name)
    assert f"## {run_id}" in said("report", name, "--markdown")
    assert f"--run={run_id}" in said("list", "rungs", "--markdown", "--run", name)
    assert f"{run_id} is simulated" in said("compare", name, "fixture")


def test_help_names_every_command_and_shows_brackets() -> None:
    done = run([*MODULE, "--help"])
    assert all(command in done.stdout for command in COMMANDS)
    assert "channels[pow2]=[0:3]" in run([*MODULE, "sweep", "--help"]).stdout.replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "figg3"],
        ["sweep", "quick", "--samples", "0"],
        ["sweep", "train", "--rung", "r07"],
        ["sweep"],
        ["report", "no-such-run"],
        ["show", "no-such-run"],
        ["show", "no-such-run", "--json"],
        ["show", "latest", "--csv", "--json"],
        ["list", "rungs", "--markdown", "--json"],
        ["sweeep"],
    ],
)
def test_usage_errors_exit_with_2_and_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    done = run([*MODULE, *arguments], cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_the_bare_checkout_runs(tmp_path: Path) -> None:
    """By its script from anywhere; as a module from within, where it hides what is installed."""
    for command, folder in (([str(ROOT / "cli.py")], tmp_path), (["-m", "gspn2bench"], ROOT)):
        done = run([sys.executable, *command, "list", "--plain"], cwd=folder)
        assert done.returncode == 0, done.stderr
        assert {"r01", "r07", "quick", "fig3"} <= set(done.stdout.split())


def test_from_sweep_to_report_in_two_commands(tmp_path: Path) -> None:
    narrow = ["--device", "sim", "-a", "batch=1", "-a", "size=4", "--rung", "r07"]
    swept = run([*MODULE, "sweep", "quick", *narrow, "--quiet"], cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    assert swept.stderr == ""
    assert (tmp_path / swept.stdout.strip() / "rows.jsonl").is_file()
    shown = run([*MODULE, "show", "latest"], cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "r07" in shown.stdout
    reported = run([*MODULE, "report", "latest"], cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    page = tmp_path / reported.stdout.strip()
    assert page.is_file()
    assert page.stat().st_size < 6e6
