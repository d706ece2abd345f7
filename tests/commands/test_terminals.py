"""The command line on terminals, pipes and paths as they are out there."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gspn2bench import app
from gspn2bench.commands.output import REPLACEMENTS
from gspn2bench.profile.command import own_program

RESULTS = str(Path(__file__).resolve().parents[2] / "results")
RUN = "fig3-20261123T171409Z-ff8f2e"
COMMANDS = {
    "show": ("show", RUN, "--results", RESULTS),
    "list": ("list",),
    "report": ("report", "--markdown", RUN, "--results", RESULTS),
    "compare": ("compare", RUN, RUN, "--results", RESULTS),
    "compare --markdown": ("compare", RUN, RUN, "--results", RESULTS, "--markdown"),
    "ladder": ("list", "rungs", "--markdown"),
    "trends": ("show", "fig1", "--results", RESULTS),
    "doctor": ("doctor",),
    "--help": ("sweep", "--help"),
}


def run_main(monkeypatch, arguments, stdout=None, stderr=None) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gspn2bench", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    for name, stream in (("stdout", stdout), ("stderr", stderr)):
        if stream is not None:
            monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as caught:
        app.main()
    return caught.value.code or 0


def output(monkeypatch, arguments, encoding) -> str:
    """The output of a command on a stream with an encoding, decoded with that encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert run_main(monkeypatch, arguments, stream) == 0
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r", "gbk"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_encoding_can_be_printed(monkeypatch, name, encoding):
    text = output(monkeypatch, COMMANDS[name], encoding)
    assert len(text) > 200
    assert "?" not in text.replace("do_bench?", "")


def test_plain_characters_stand_for_those_that_are_missing(monkeypatch):
    text = output(monkeypatch, COMMANDS["show"], "ascii")
    assert "+/-" in text
    assert "97.8 % of" in text
    assert set("12345678") < set("".join(REPLACEMENTS.values()))


def test_utf_8_is_printed_as_it_is(monkeypatch):
    text = output(monkeypatch, COMMANDS["show"], "utf-8")
    assert "\N{PLUS-MINUS SIGN}" in text
    assert "+/-" not in text


def test_a_name_that_is_not_utf_8_can_be_printed(monkeypatch, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    file = os.fsdecode(bytes(tmp_path / "r") + b"\xff.md")
    code = run_main(monkeypatch, (*COMMANDS["report"], "--output", file), stream)
    stream.flush()
    assert code == 0
    assert stream.buffer.getvalue().endswith(b"/r?.md\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_gives_one_line_and_exit_code_3(monkeypatch, capsys, name):
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        assert run_main(monkeypatch, COMMANDS[name], full) == 3
    assert capsys.readouterr().err == (
        "error: the output can't be written: No space left on device\n"
    )


def test_a_full_disk_for_messages_too_has_the_same_exit_code():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*own_program(), "list"], stdout=full, stderr=full, check=False)
    assert done.returncode == 3


@pytest.mark.parametrize("name", ["show", "compare", "compare --markdown", "list"])
def test_a_pipe_that_is_closed_early_does_not_change_the_exit_code(name):
    """Exit code 1 would be a regression."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*own_program(), *COMMANDS[name]], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_messages_have_no_control_characters(monkeypatch, capsys):
    assert run_main(monkeypatch, ("show", "a\x1b]0;title\x07b", "--results", RESULTS)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: run: ")
    assert "\x1b" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "quick", "--device", "sim", "--quiet", "--results"),
        ("traffic", "quick", "--rung", "r07", "--tool", "trace", "--quiet", "--results"),
    ],
)
def test_a_results_path_that_is_not_utf_8_is_refused_before_a_folder_is_made(
    monkeypatch, capsys, tmp_path, arguments
):
    folder = os.fsdecode(bytes(tmp_path / "r") + b"\xff")
    assert run_main(monkeypatch, (*arguments, folder)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert r"r\xff' is not UTF-8" in error
    assert list(tmp_path.iterdir()) == []


def test_a_host_label_that_is_not_utf_8_is_refused_before_a_folder_is_made(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("GSPN2BENCH_HOST", os.fsdecode(b"bench\xff"))
    command = ("sweep", "quick", "--device", "sim", "--quiet", "--results", str(tmp_path))
    assert run_main(monkeypatch, command) == 2
    assert r"error: host: b'bench\xff' is not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SWEEP = ("sweep", "quick", "--device", "sim", "-a", "size=8", "-a", "batch=1", "-a", "channels=1")


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def starting_worker(process: int) -> bool:
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(process)]
    return any(b"spawn_main" in command for command in commands)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_while_the_worker_starts_gives_one_line(tmp_path):
    sweep = subprocess.Popen(
        [*own_program(), *SWEEP, "--rung", "r07", "--results", str(tmp_path), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 100
        while not starting_worker(sweep.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)  # the worker imports torch
        os.killpg(sweep.pid, signal.SIGINT)
        out, error = sweep.communicate(timeout=100)
    finally:
        sweep.kill()
        sweep.wait()
    assert sweep.returncode == 130
    assert Path(out.strip()).parent == tmp_path
    (line,) = error.splitlines()
    assert line.startswith("interrupted; finished rows are kept; resume: ")


NOISY = """
import logging
import warnings

from gspn2bench.kernels.r07_gspn2 import RUNG as r07
from dataclasses import replace


def forward(problem, operands):
    warnings.warn("Profiler clears events at the end of each cycle", stacklevel=1)
    logging.getLogger("library").warning("not enough SMs")
    return r07.forward(problem, operands)


RUNG = replace(r07, id="noisy", forward=forward)
"""


@pytest.mark.parametrize("asked", [False, True])
def test_warnings_of_libraries_do_not_reach_the_terminal(tmp_path, asked):
    file = tmp_path / "noisy.py"
    file.write_text(NOISY)
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONWARNINGS"}
    if asked:
        environment["PYTHONWARNINGS"] = "default"
    sweep = [*own_program(), *SWEEP, "--rung", str(file), "--results", str(tmp_path / "r")]
    done = subprocess.run(
        [*sweep, "-a", "phase=forward"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    for words in ("Profiler clears", "not enough SMs"):
        assert (words in done.stderr) == asked
