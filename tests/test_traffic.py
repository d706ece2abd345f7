"""``gspn2bench traffic`` end to end in the simulator, and ncu's output as its manual has it."""

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gspn2bench import once, passes, sweep, traffic
from gspn2bench.app import app
from gspn2bench.errors import UsageError
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.measure import counters
from gspn2bench.measure.counters import METRICS, Counters, ProgramError, UnavailableError
from gspn2bench.passes import Plan
from gspn2bench.scenario import Case
from gspn2bench.store import Run, read_run

simulated = pytest.mark.skipif(not SIMULATED, reason="the tracer needs the simulator")

NARROW = ("-a", "batch=1", "-a", "channels=2", "-a", "size=8")


def invoke(results: Path, *arguments: str) -> tuple[Result, Run]:
    command = ["traffic", "quick", "--results", str(results), *arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    (folder,) = results.iterdir()
    return result, read_run(folder)


@simulated
def test_traced_rows_have_sectors_and_no_latency(tmp_path: Path) -> None:
    result, run = invoke(tmp_path, *NARROW, "--tool", "trace", "-a", "phase=[forward,backward]")
    assert result.exit_code == 0, result.output
    assert [(row.rung, row.phase) for row in run.rows] == [
        ("r01", "forward"),
        ("r07", "forward"),
        ("r01", "backward"),
        ("r07", "backward"),
    ]
    for row in run.rows:
        assert row.status == "ok"
        assert row.simulated
        assert row.latency_ms is None
        assert row.bytes_dram is None
        assert row.launches_observed == row.launches_expected
        assert row.bytes_traced == traffic.sector_bytes(row)
    r01, r07 = run.rows[:2]
    # 8 rows of 32 bytes in 2 slices: each of 5 inputs and the output, a sector a row
    assert (r07.sectors_load, r07.sectors_store) == (80, 16)
    assert (r07.requests_load, r07.requests_store) == (80, 16)
    assert r07.bytes_traced == r07.bytes_touched == r07.bytes_model == 3072
    assert traffic.amplification(r07) == traffic.sectors_per_request(r07) == 1
    # 16 lanes a sector each, for every column; of the 7 with one before, 14 for each neighbour
    assert (r01.sectors_load, r01.requests_load) == (8 * 5 * 16 + 7 * (16 + 14 + 14), 8 * 5 + 7 * 3)
    assert (r01.sectors_store, r01.requests_store) == (8 * 16, 8)
    assert r01.bytes_reread == 7 * (14 + 14) * 4
    assert run.record.simulated


@simulated
def test_without_ncu_the_hardware_column_says_why_and_the_trace_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "find_cuda", lambda: None)
    monkeypatch.setattr(counters.tools, "find_ncu", lambda: None)
    result, run = invoke(tmp_path, *NARROW, "--rung", "r07")
    assert result.exit_code == 0
    assert [(row.simulated, row.status) for row in run.rows] == [
        (True, "ok"),
        (False, "skipped"),
        (False, "skipped"),
    ]
    assert "unavailable" in result.stdout
    assert "install Nsight Compute" in result.stderr
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    assert "…" not in result.stdout
    assert not run.record.simulated


@simulated
def test_what_cannot_be_traced_is_a_row_with_its_reason(tmp_path: Path) -> None:
    arguments = ("-a", "size=91", "-a", "batch=1", "-a", "channels=1", "--tool", "trace")
    result, run = invoke(tmp_path, *arguments, "--rung", "r06,r07")
    assert result.exit_code == 3
    r06, r07 = run.rows
    assert (r06.status, r07.status) == ("skipped", "skipped")
    assert "weights" in (r06.reason or "")
    assert r07.reason == "tracer: 8281 elements are above 8192"


@simulated
@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"forward": lambda p, o: lambda: None}, "incorrect", "NaN"),
        ({"launches": lambda p: 2}, "invalid", "launches: 1 observed, 2 declared"),
        ({"forward": lambda p, o: lambda: 1 / 0}, "failed", "ZeroDivisionError"),
    ],
)
def test_a_bad_rung_has_no_traffic(change: dict[str, Any], status: str, reason: str) -> None:
    from gspn2bench.kernels.ladder import LADDER

    bad = replace(LADDER["r07"], id="bad", **change)
    plan = Plan("quick", "cold", (), (), "trace", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes.rungs, "find", lambda reference: bad)
        row = passes.traced(plan, Case(1, 2, 3, 4), "bad")
    assert row.status == status
    assert reason in (row.reason or "")
    assert row.bytes_traced is None
    assert row.sectors_load is None


def test_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    command = ["traffic", "quick", "--tool", "nvprof", "--results", str(tmp_path / "none")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, UsageError)
    assert "nvprof" in str(result.exception)
    assert not (tmp_path / "none").exists()


FACTS = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream")
KERNEL = ("4711", "python3", "127.0.0.1", "r01_line_launch_forward", "1", "7")


def csv_line(words: Any) -> str:
    return ",".join(f'"{word}"' for word in words)


RANGES = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"


def in_ranges(page: str, *trials: int | None) -> str:
    """A raw page with the column of a kernel's ranges, which says its trial."""
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
    """What ncu --csv --page raw prints, metrics sorted by name as it does."""
    metrics = sorted(METRICS.values())
    given = {m: "byte" if "bytes" in m else "sector" if "sectors" in m else "" for m in metrics}
    given |= units or {}
    lines = [csv_line((*FACTS, *metrics)), csv_line((*[""] * len(FACTS), *given.values()))]
    lines += [csv_line((i, *KERNEL, *values)) for i, values in enumerate(kernels)]
    messages = ["==PROF== Connected to process 4711", '==PROF== Profiling "r01": 0%....100%']
    return "\n".join([*messages, *lines, "==PROF== Disconnected from process 4711", ""])


ONE = ("1,024", "512", "20", "10", "3,200.000000", "320", "40", "30")
"""In the order of the names: dram read, write; requests ld, st; sectors ld, st; L2 read, write."""


def test_the_launches_of_a_range_are_summed() -> None:
    (found,) = counters.read(raw_page(ONE, ONE, ("0", "32", "1", "1", "4", "4", "4", "4")))
    assert found == Counters(
        launches=3,
        dram_read_bytes=2048,
        dram_write_bytes=1056,
        l2_read_sectors=84,
        l2_write_sectors=64,
        load_sectors=6404,
        store_sectors=644,
        load_requests=41,
        store_requests=21,
    )


def test_the_kernels_of_several_trials_are_told_apart_by_their_ranges() -> None:
    page = in_ranges(raw_page(ONE, ONE, ("0", *ONE[1:])), 2, 0, 2)
    first, second, third = counters.read(page, trials=3)
    assert first is not None
    assert third is not None
    assert second is None
    assert (first.launches, third.launches) == (1, 2)
    assert (first.dram_read_bytes, third.dram_read_bytes) == (1024, 1024)
    assert third.load_sectors == 6400


@pytest.mark.parametrize("trials", [(0, None), (0, 7)])
def test_kernels_that_lie_in_no_trial_of_several_are_an_error(trials: tuple[int | None]) -> None:
    page = in_ranges(raw_page(ONE, ONE), *trials)
    with pytest.raises(ProgramError, match="does not say which kernel"):
        counters.read(page, trials=2)
    (found,) = counters.read(page)  # one trial needs no telling
    assert found is not None
    assert found.launches == 2


def test_units_are_taken_at_their_word() -> None:
    page = raw_page(("1.5", *ONE[1:]), units={METRICS["dram_read_bytes"]: "Mbyte"})
    (found,) = counters.read(page)
    assert found is not None
    assert found.dram_read_bytes == 1_500_000


@pytest.mark.parametrize(
    ("text", "output", "code", "words"),
    [
        ("", "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", 1, "SYS_ADMIN"),
        ("==ERROR== ERR_NVGPUCTRPERM", "", 0, "NVreg_RestrictProfilingToAdminUsers"),
        ("", "", 0, "saw no kernel"),
        ("==WARNING== No kernels were profiled.\n", "", 0, "saw no kernel"),
        (raw_page(), "", 0, "saw no kernel"),
        ("", "Traceback\nValueError: bad\n", 1, "ended with 1: ValueError: bad"),
        ("", "", -9, "ended with -9: no message"),
        (
            "==ERROR== Option --page is not allowed.\nUse --help for further details.\n",
            "==PROF== Connected\n",
            1,
            "ended with 1: ==ERROR== Option --page is not allowed.; ==PROF== Connected",
        ),
        (raw_page(("n/a", *ONE[1:])), "", 0, "'n/a' for dram__bytes_read.sum"),
        (raw_page(("nan", *ONE[1:])), "", 0, "'nan' for dram__bytes_read.sum"),
        (raw_page(ONE, units={METRICS["load_sectors"]: "furlong"}), "", 0, "'furlong'"),
        (raw_page(ONE).replace("dram__bytes_read.sum", "other"), "", 0, "no dram__bytes_read.sum"),
        (raw_page(ONE[:3]), "", 0, "no lts__t_sectors_op_read.sum"),
    ],
)
def test_no_counters_is_a_reason(text: str, output: str, code: int, words: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        counters.read(text, output, code)
    assert words in str(caught.value)


def test_the_command_line() -> None:
    line = counters.command(Path("/opt/ncu"), "all", Path("log.csv"), ["python", "x.py"])
    assert line[0] == "/opt/ncu"
    assert line[-2:] == ["python", "x.py"]
    options = " ".join(line[1:-2])
    for words in (
        "--csv",
        "--page raw",
        "--nvtx --",
        "--nvtx-include gspn2bench@measure/",
        "--clock-control none",
        "--cache-control all",
        "--log-file log.csv",
        "dram__bytes_read.sum,dram__bytes_write.sum,lts__t_sectors_op_read.sum",
    ):
        assert words in options


def fake_ncu(folder: Path, page: str, code: int = 0) -> Path:
    """A program that leaves the page in its log and its own command line beside it."""
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


@simulated
def test_hardware_rows_are_labelled_by_what_was_done_to_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu = fake_ncu(tmp_path, raw_page(ONE))
    monkeypatch.setattr(counters, "find", lambda: ncu)
    result, run = invoke(tmp_path / "results", *NARROW, "--tool", "ncu", "--rung", "r07")
    assert result.exit_code == 0, result.output
    assert [(row.l2, row.simulated, row.status) for row in run.rows] == [
        ("warm", False, "ok"),
        ("cold", False, "ok"),
    ]
    for row in run.rows:
        assert row.bytes_dram == 1536
        assert (row.sectors_load, row.sectors_store) == (3200, 320)
        assert (row.requests_load, row.requests_store) == (20, 10)
        assert (row.sectors_l2_read, row.sectors_l2_write) == (40, 30)
        assert row.bytes_traced is None
        assert row.latency_ms is None
    arguments, locale = json.loads((tmp_path / "heard").read_text())
    assert locale == "C"
    assert arguments[arguments.index("--cache-control") + 1] == "all"
    job = json.loads(arguments[-1])
    assert (job["rungs"], job["case"]["height"]) == (["r07"], 8)


@simulated
def test_launches_that_ncu_did_not_see_make_the_row_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu = fake_ncu(tmp_path, raw_page(ONE))
    monkeypatch.setattr(counters, "find", lambda: ncu)
    result, run = invoke(tmp_path / "results", *NARROW, "--tool", "ncu", "--rung", "r01")
    assert result.exit_code == 3
    assert {row.reason for row in run.rows} == {"launches: 1 seen by ncu, 8 declared"}
    assert {row.bytes_dram for row in run.rows} == {None}


def playing_ncu(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str = "False") -> Path:
    """An ncu that sees one kernel of each rung, and fails where a word on the rungs says so."""
    page = in_ranges(raw_page(ONE, ONE), 0, 1)
    path = folder / "ncu"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "rungs = json.loads(sys.argv[-1])['rungs']\n"
        f"with open({str(folder / 'jobs')!r}, 'a') as jobs: print(*rungs, file=jobs)\n"
        "log = sys.argv[sys.argv.index('--log-file') + 1]\n"
        f"if {fails}: sys.exit('CUDA error: an illegal memory access')\n"
        f"lines = {page!r}.splitlines(keepends=True)\n"
        "pathlib.Path(log).write_text(''.join(lines[: 4 + len(rungs)]))\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(counters, "find", lambda: path)
    return folder / "jobs"


@simulated
def test_the_rungs_of_a_case_are_profiled_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch)
    arguments = (*NARROW, "--tool", "ncu", "--rung", "r03,r06,r07")
    result, run = invoke(tmp_path / "results", *arguments)
    assert result.exit_code == 0, result.output
    assert jobs.read_text().splitlines() == ["r03 r07"] * 2  # warm and cold; r06 can't run it
    assert [(row.rung, row.l2, row.status) for row in run.rows] == [
        (rung, l2, status)
        for l2 in ("warm", "cold")
        for rung, status in (("r06", "skipped"), ("r03", "ok"), ("r07", "ok"))
    ]


@simulated
def test_a_rung_that_breaks_its_process_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = playing_ncu(tmp_path, monkeypatch, fails="'r03' in rungs")
    result, run = invoke(tmp_path / "results", *NARROW, "--tool", "ncu", "--rung", "r03,r07")
    assert result.exit_code == 0, result.output
    assert jobs.read_text().splitlines() == ["r03 r07", "r03", "r07"] * 2
    for r03, r07 in (run.rows[:2], run.rows[2:]):
        assert r03.reason == (
            "hardware counters unavailable: ncu ended with 1: CUDA error: an illegal memory access"
        )
        assert r07.status == "ok"


@simulated
def test_a_rung_that_kills_its_process_is_a_row_and_the_next_is_traced(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import os, signal\n"
        "from dataclasses import replace\n"
        "from gspn2bench.kernels.ladder import LADDER\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "RUNG = replace(LADDER['r07'], id='mine', forward=lambda problem, operands: kill)\n"
    )
    narrow = ("-a", "batch=1", "-a", "channels=1", "-a", "size=2", "--tool", "trace")
    result, run = invoke(tmp_path / "results", *narrow, "--rung", f"r03,{file},r07")
    assert result.exit_code == 3
    assert [(row.rung, row.status) for row in run.rows] == [
        ("r03", "ok"),
        ("mine", "failed"),
        ("r07", "ok"),
    ]
    assert run.rows[1].reason == "the worker process died: signal SIGKILL"


@simulated
def test_an_interrupted_run_keeps_its_rows_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playing_ncu(tmp_path, monkeypatch)
    measure, begun = counters.measure, []

    def interrupted(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(counters, "measure", interrupted)
    narrow = ("-a", "batch=1", "-a", "channels=1", "-a", "size=2", "--rung", "r07")
    result, run = invoke(tmp_path / "results", *narrow)
    assert result.exit_code == 130
    assert f"gspn2bench traffic --resume {run.path}" in result.stderr
    assert [(row.simulated, row.l2) for row in run.rows] == [(True, "cold"), (False, "warm")]

    resumed = CliRunner().invoke(app, ["traffic", "--resume", str(run.path)])
    assert resumed.exit_code == 0, resumed.output
    whole = read_run(run.path)
    assert whole.rows[:2] == run.rows
    assert [(row.simulated, row.l2) for row in whole.rows[2:]] == [(False, "cold")]
    assert len(begun) == 3
    again = CliRunner().invoke(app, ["traffic", "--resume", str(run.path)])
    assert again.exit_code == 0
    assert read_run(run.path).rows == whole.rows
    with pytest.raises(UsageError, match="it is one of gspn2bench traffic --resume"):
        sweep.planned(run.record)


def test_ncu_that_cannot_be_run_or_fails_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="can't be run: No such file"):
        counters.measure(tmp_path / "none", "none", [])
    with pytest.raises(UnavailableError, match="ended with 3"):
        counters.measure(fake_ncu(tmp_path, "", 3), "none", [])


@simulated
def test_the_profiled_program_finds_the_package_and_says_why_it_cannot_run(tmp_path: Path) -> None:
    import subprocess

    program = once.program(Case(1, 1, 3, 4), ["r07"], 0)
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("gspn2bench.errors.UsageError: --device")
