"""Profiles, with stand-ins for nsys and ncu and files in their documented formats."""

import json
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gspn2bench import nvtx_ranges
from gspn2bench.app import app
from gspn2bench.cases.axes import parse_axis
from gspn2bench.cases.scenario import Case, load
from gspn2bench.cases.selection import cases
from gspn2bench.errors import UsageError
from gspn2bench.measure import launches
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.nvtx_ranges import RECORDED, SILENT
from gspn2bench.profile import command, figures, ncu, runner
from gspn2bench.profile.trace import ProfilerTrace, TracedLaunch, base_name, rung_of
from gspn2bench.records.store import RunWriter
from gspn2bench.run.worker import Worker
from gspn2bench.system import executables, nvtx_probe

from ..helpers.profile_fixtures import GPU, MANGLED, csv, export, fixture_run, kernels, label

NSYS_HELP = """usage: nsys profile [<args>] [application] [<application args>]
        -c, --capture-range=
        --capture-range-end=
        --cpuctxsw=
        --cuda-graph-trace=
        -o, --output=
        -p, --nvtx-capture=
        -s, --sample=
        -t, --trace=
"""
NCU_HELP = """usage: ncu [options] [program] [program-arguments]
  --target-processes arg (=all)
  --nvtx
  --nvtx-include arg
  --clock-control arg (=base)
  --set arg
  -c [ --launch-count ] arg
  -o [ --export ] arg
"""
NARROW = ("-a", "batch=1", "-a", "channels=2", "-a", "size=8", "--rung", "r01,r07")


def tool(folder: Path, name: str, body: str, help_text: str) -> Path:
    """An executable that prints its help, or logs its arguments to argv.jsonl and runs ``body``."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys\n"
        "words = sys.argv[1:]\n"
        f"if '--help' in words: print({help_text!r}); sys.exit()\n"
        "if words[-2:-1] == ['-c']: print(os.environ.get('PROBE', '')); sys.exit()\n"
        "here = pathlib.Path(__file__).parent\n"
        "with (here / 'argv.jsonl').open('a') as log: print(json.dumps(words), file=log)\n"
        "report = words[words.index('-o') + 1] if '-o' in words else None\n"
        f"{body}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH, without any installed profiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(executables, "_newest", lambda *places: None)
    monkeypatch.chdir(tmp_path)
    return folder


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def words_of(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "argv.jsonl").read_text().splitlines()]


# --- the command lines


def request(name, folder=Path("out"), **changes):
    fields = {
        "tool": name,
        "scenario": "fig3",
        "trials": (
            (Case(16, 8, 1024, 1024, weights="shared"), "r01"),
            (Case(16, 8, 1024, 1024, weights="shared"), "my rungs/mine.py"),
            (Case(1, 2, 8, 9, chunk=4), "r01"),
            (Case(1, 2, 8, 9, chunk=4), "my rungs/mine.py"),
        ),
        "timing": "graph",
        "launches": 4,
        "folder": folder,
    }
    return command.Request(**fields | changes)


def test_nsys_starts_and_stops_on_the_measure_range():
    jobs = command.profile_jobs(request("nsys"), "nsys", ["python", "-m", "gspn2bench"])
    assert shlex.join(jobs[0].command).startswith(
        "env GSPN2BENCH_PROFILED=nsys nsys profile -t cuda,nvtx -s none --cpuctxsw=none -c nvtx "
        "-p measure@gspn2bench --capture-range-end=stop --cuda-graph-trace=node -o out/01-r01 "
        "python -m gspn2bench sweep fig3 --rung r01 -a batch=16 "
    )
    assert jobs[0].report == Path("out/01-r01.nsys-rep")
    # only the first range of a process is captured, so each trial has its own process
    assert len(jobs) == len({job.report for job in jobs}) == 4
    assert jobs[3].report == Path("out/04-mine.nsys-rep")


def test_ncu_profiles_a_few_kernels_of_the_measure_range():
    line = shlex.join(command.profile_jobs(request("ncu", launches=7), "ncu")[0].command)
    assert "--target-processes all --nvtx --nvtx-include gspn2bench@measure/" in line
    assert "--clock-control none" in line
    assert "--launch-count 7 " in line


@pytest.mark.parametrize("name", ["nsys", "ncu"])
def test_a_profiled_sweep_takes_one_sample_of_one_case_in_its_own_folder(name):
    for scenario in ("fig3", "table1", "quick", "tableS2"):
        plan = load(scenario)
        whole = request(name, trials=tuple((case, "r07") for case in cases(plan)))
        for job, (case, _) in zip(command.profile_jobs(whole, name), whole.trials, strict=True):
            words = job.command[job.command.index("sweep") :]
            axes = [parse_axis(words[i + 1]) for i, word in enumerate(words) if word == "-a"]
            assert cases(plan, axes) == [case]
            assert words[words.index("--samples") + 1] == "1"
            assert words[words.index("--timing") + 1] == "graph"
            assert "not-a-measurement" in words[words.index("--results") + 1]


def test_each_case_is_profiled_with_the_rungs_that_run_its_part():
    done = invoke("profile", "tableS4", "--rung", "r07,gspn2", "--dry-run")
    assert done.exit_code == 0, done.output
    jobs = [
        (line[line.index("--rung") + 1], "part=kernel" in line)
        for line in map(shlex.split, done.stdout.splitlines())
    ]
    assert jobs == [("gspn2", False)] * 3 + [("r07", True)]


def test_own_program_runs_gspn2bench():
    done = subprocess.run(
        [*command.own_program(), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_prints_a_command_per_trial_and_runs_nothing(bin_folder):
    done = invoke("profile", "quick", *NARROW, "--dry-run")
    assert done.exit_code == 0, done.output
    first, second = map(shlex.split, done.stdout.splitlines())
    assert first[:4] == ["env", "GSPN2BENCH_PROFILED=nsys", "nsys", "profile"]
    assert "r01" in first
    assert "r07" in second
    assert list(Path().iterdir()) == [Path("bin")]


def test_without_the_tool_the_commands_are_printed(bin_folder):
    done = invoke("profile", "quick", *NARROW, "--tool", "ncu")
    assert isinstance(done.exception, UsageError)
    message = str(done.exception)
    assert "ncu was not found" in message
    assert "https://developer.nvidia.com/nsight-compute" in message
    assert "gspn2bench ingest" in message
    assert message.count("ncu --target-processes all") == 2
    assert list(Path().iterdir()) == [Path("bin")]


@pytest.mark.parametrize(
    ("option", "word", "choices"),
    [
        ("--tool", "nvprof", "'nsys', 'ncu'"),
        ("--timing", "device", "'eager', 'graph'"),
        ("--timing", "eager,graph", "'eager', 'graph'"),
    ],
)
def test_an_unknown_choice_is_refused(bin_folder, option, word, choices):
    done = invoke("profile", "quick", option, word)
    assert done.exit_code == 2
    message = " ".join(done.output.split())
    assert f"'{option}'" in message
    assert f"'{word}' is not one of {choices}." in message


def test_an_axis_out_of_bounds_is_refused(bin_folder):
    done = invoke("profile", "quick", "-a", "size=0")
    assert isinstance(done.exception, UsageError)
    assert "below 1" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "help_text", "missing"),
    [
        ("nsys", NSYS_HELP.replace("--cuda-graph-trace=", ""), "--cuda-graph-trace"),
        ("nsys", NSYS_HELP.replace("--capture-range=", "--capture-rang="), "--capture-range"),
        ("ncu", NCU_HELP.replace("--nvtx-include", "--nvtx-exclude"), "--nvtx-include"),
    ],
)
def test_a_version_without_an_option_is_reported(bin_folder, name, help_text, missing):
    tool(bin_folder, name, "", help_text)
    done = invoke("profile", "quick", *NARROW, "--tool", name)
    assert isinstance(done.exception, UsageError)
    assert f"does not know {missing};" in str(done.exception)
    assert not (bin_folder / "argv.jsonl").exists()


@pytest.mark.parametrize(
    ("answer", "refused"), [(SILENT, True), (RECORDED, False), ("", False), ("?", False)]
)
def test_an_nsys_that_records_no_range_is_refused_before_the_run(
    bin_folder, monkeypatch, answer, refused
):
    monkeypatch.setenv("PROBE", answer)
    tool(bin_folder, "nsys", "print('ran'); sys.exit(5)", NSYS_HELP)
    done = invoke("profile", "quick", *NARROW, "-o", "here")
    assert (bin_folder / "argv.jsonl").exists() == (not refused)
    assert Path("here").exists() == (not refused)
    if refused:
        assert re.search(
            r"^--tool: .*/bin/nsys: this nsys does not record the ranges of nvtx [\d.]+; fix: "
            r"install Nsight Systems: .*, 2025 or newer, or pip install 'nvtx==0\.2\.11'$",
            str(done.exception),
        )


def test_the_probe_runs_a_program_under_nsys_like_a_profile(bin_folder):
    """A stand-in that runs its program: without a profiler, its ranges are not recorded."""
    path = bin_folder / "nsys"
    path.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\nwords = sys.argv[1:]\n"
        "assert words[0] == 'profile' and 'measure@gspn2bench' in words\n"
        "sys.exit(subprocess.run(words[words.index('-o') + 2:]).returncode)\n"
    )
    path.chmod(0o755)
    assert "does not record the ranges of nvtx" in (nvtx_probe.silent_reason(path) or "")
    path.write_text("#!/bin/sh\nexit 3\n")
    assert nvtx_probe.silent_reason(path) is None
    assert nvtx_probe.silent_reason(bin_folder / "missing") is None


def test_a_sweep_under_a_profiler_that_records_nothing_is_refused(monkeypatch, tmp_path):
    sweep = ("sweep", "quick", "--device", "sim", "--results", str(tmp_path / "r"))
    monkeypatch.setenv(nvtx_ranges.INJECTION, "/opt/nsys/libToolsInjection64.so")
    monkeypatch.setenv(executables.PROFILED, "nsys")
    monkeypatch.setattr(nvtx_ranges, "domain_state", lambda: SILENT)
    done = invoke(*sweep)
    assert isinstance(done.exception, UsageError)
    assert "does not record the ranges of this nvtx" in str(done.exception)
    assert "pip install 'nvtx==0.2.11'" in str(done.exception)
    assert not (tmp_path / "r").exists()
    monkeypatch.delenv(executables.PROFILED)
    assert invoke(*sweep, "--dry-run").exit_code == 0


def test_a_run_without_a_report_says_why(bin_folder):
    tool(bin_folder, "nsys", "print('Generated:')", NSYS_HELP)
    done = invoke("profile", "quick", *NARROW, "-o", "here")
    assert done.exit_code == 3
    assert "no 01-r01.nsys-rep, exit code 0; nsys saw no range measure@gspn2bench" in done.output
    assert "pip install 'nvtx==0.2.11'" in done.output


def test_a_tool_that_fails_is_reported(bin_folder):
    tool(bin_folder, "nsys", "", "").write_text("#!/bin/sh\necho no licence >&2\nexit 3\n")
    done = invoke("profile", "quick", *NARROW)
    assert isinstance(done.exception, UsageError)
    assert "no licence" in str(done.exception)


def test_a_failed_export_is_reported_with_the_messages_of_the_tool(bin_folder):
    """ncu prints its errors on stdout, and its last line is not informative."""
    text = "==ERROR== Option --nvtx is not allowed with --import.\\nUse --help for further details."
    body = f"print('{text}'); print('and more', file=sys.stderr); sys.exit(1)"
    tool(bin_folder, "ncu", body, NCU_HELP)
    report = Path("a.ncu-rep")
    report.touch()
    with pytest.raises(UsageError) as caught:
        runner.read(report)
    for words in ("Option --nvtx is not allowed", "Use --help", "and more"):
        assert words in str(caught.value)
    (words,) = words_of(bin_folder)
    assert words[2:] == ["--csv", "--page", "raw", "--print-units", "base"]


@pytest.mark.parametrize(
    ("name", "suffix", "help_text"),
    [("nsys", ".nsys-rep", NSYS_HELP), ("ncu", ".ncu-rep", NCU_HELP)],
)
def test_an_export_is_made_in_the_locale_c(bin_folder, monkeypatch, name, suffix, help_text):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    tool(bin_folder, name, "print('locale', os.environ['LC_ALL']); sys.exit(1)", help_text)
    report = Path(f"a{suffix}")
    report.touch()
    with pytest.raises(UsageError, match="locale C;"):
        runner.read(report)


def test_an_existing_folder_is_not_changed(bin_folder):
    tool(bin_folder, "nsys", "", NSYS_HELP)
    Path("mine").mkdir()
    done = invoke("profile", "quick", *NARROW, "-o", "mine")
    assert isinstance(done.exception, UsageError)
    assert "mine" in str(done.exception)


# --- a profiled sweep


def play(bin_folder: Path, name: str, **changes: object) -> None:
    """A stand-in for a tool that writes the report and the run folder of one trial."""
    rehearsal = bin_folder / "rehearsal"
    rehearsal.mkdir()
    run = fixture_run(**changes)
    with RunWriter(rehearsal, run.record) as writer:
        for row in run.rows:
            writer.add(row)
    suffix = command.SUFFIX[name]
    if name == "nsys":
        export(rehearsal / "export.sqlite", kernels(1024, calls=2))
    else:
        csv(rehearsal / "export.csv", 4)
    tool(
        bin_folder,
        name,
        "import shutil\n"
        "files = here / 'rehearsal'\n"
        "if 'export' in words:\n"
        "    shutil.copy(files / 'export.sqlite', words[words.index('--output') + 1])\n"
        "elif '--import' in words:\n"
        "    print((files / 'export.csv').read_text())\n"
        "else:\n"
        "    assert os.environ['GSPN2BENCH_PROFILED']\n"
        f"    pathlib.Path(report + '{suffix}').touch()\n"
        "    shutil.copytree(files, words[words.index('--results') + 1] + '/run')\n",
        NSYS_HELP if name == "nsys" else NCU_HELP,
    )


def test_nsys_runs_and_its_gaps_are_summed(bin_folder):
    play(bin_folder, "nsys")
    done = invoke(
        "profile", "fig3", "--rung", "r01", "-a", "weights=channel", "-a", "phase=forward"
    )
    assert done.exit_code == 0, done.output
    (folder,) = Path("profiles").iterdir()
    assert folder.name.startswith("fig3-nsys-")
    assert done.stdout.splitlines()[-1] == str(folder)
    # 1024 kernels of 10 us, 5 us apart
    assert [line.split()[-6:] for line in done.stdout.splitlines() if "r01" in line] == [
        ["fwd", "1,024", "10.2", "5.12", "33.3", "%"]
    ]
    run, export_ = words_of(bin_folder)
    assert run[0] == "profile"
    assert run[run.index("-m") + 1 :][:3] == ["gspn2bench", "sweep", "fig3"]
    assert export_[:3] == ["export", "--type", "sqlite"]


def test_a_page_of_a_real_ncu_is_read() -> None:
    page = Path(__file__).resolve().parents[1] / "data" / "ncu-raw-page-h200.csv"
    trace = ncu.read(page)
    assert trace.gpus == ("NVIDIA H200",)
    (launched,) = trace.launches.values()  # in a measure range without a label
    assert {launch.name: launch.duration_ns for launch in launched} == {
        "r02_fused_forward": 27_752_416,
        "r03_coalesced_forward": 1_170_944,
        "r04_shared_forward": 1_118_464,
        "r05_block2d_forward": 1_134_240,
        "r07_gspn2_forward": 778_240,
    }


def test_ncu_runs_and_the_number_of_profiled_launches_is_printed(bin_folder):
    play(bin_folder, "ncu")
    narrow = ("--rung", "r01", "-a", "weights=channel", "-a", "phase=forward")
    done = invoke("profile", "fig3", "--tool", "ncu", *narrow, "-o", "here")
    assert done.exit_code == 0, done.output
    assert "4 of 1,024" in done.stdout
    assert Path("here/01-r01.ncu-rep").is_file()


def test_a_profiler_without_a_report_fails_with_its_last_lines(bin_folder):
    tool(bin_folder, "nsys", "print('out of luck')\nsys.exit(5)", NSYS_HELP)
    done = invoke("profile", "quick", *NARROW, "-o", "here")
    assert done.exit_code == 3
    assert "exit code 5" in done.output
    assert "out of luck" in done.output
    assert "2/2" in done.output


def test_an_nsys_without_its_importer_is_reported(bin_folder):
    tool(bin_folder, "nsys", "pathlib.Path(report + '.qdstrm').touch()", NSYS_HELP)
    done = invoke("profile", "quick", *NARROW, "-o", "here")
    assert done.exit_code == 3
    assert "no importer" in done.output


def test_a_case_that_the_rung_skips_needs_no_report(bin_folder):
    play(bin_folder, "nsys", status="skipped", reason="weights: r06 shares them")
    script = (bin_folder / "nsys").read_text()
    (bin_folder / "nsys").write_text(script.replace(".touch()", ""))
    done = invoke("profile", "quick", *NARROW, "-o", "here")
    assert done.exit_code == 3  # none has a profile
    assert "skipped: weights: r06 shares them" in done.output
    assert "failed" not in done.output


def test_launches_are_not_observed_while_a_profiler_uses_cupti(monkeypatch):
    monkeypatch.setattr("gspn2bench.kernels.jit.SIMULATED", False)
    monkeypatch.setenv(executables.PROFILED, "nsys")
    assert launches.count_launches(lambda: None) is None


@pytest.mark.parametrize(("profiled", "code"), [("nsys", 0), ("", -signal.SIGKILL)])
def test_a_profiled_worker_exits_by_itself_and_flushes_its_buffers(monkeypatch, profiled, code):
    monkeypatch.setenv(executables.PROFILED, profiled)
    worker = Worker("quick", Ceilings())
    worker.stop()
    assert worker._process.exitcode == code


def test_profile_imports_neither_torch_nor_numba():
    code = (
        "import sys; from gspn2bench.profile import command, figures, runner; "
        "print({'torch', 'numba', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


# --- names


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (MANGLED.format(rung="r01_line_launch"), "r01_line_launch_forward"),
        ("r07_gspn2_forward", "r07_gspn2_forward"),
        ("void a::r07_gspn2::r07_gspn2_forward[abi:v1](A<float, 1>)", "r07_gspn2_forward"),
        ("void at::native::fill<float>(int)", "fill"),
        ("_Z3foov", "_Z3foov"),
        ("_ZN", "_ZN"),
        ("", ""),
    ],
)
def test_the_base_name_of_a_kernel(name, base):
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("name", "rung"),
    [
        ("r01_line_launch_forward", ("r01", "forward")),
        ("r07_gspn2_backward", ("r07", "backward")),
        ("r06a_columns_forward", ("r06a", "forward")),
        ("r07_gspn2_weight_sum", ("r07", None)),
        ("transpose_tile", None),
        ("r1_forward", None),
    ],
)
def test_rung_and_phase_are_in_a_kernels_name(name, rung):
    assert rung_of(name) == rung


# --- figures


def traced(launches, named=None, **changes):
    fields = {"tool": "nsys", "tool_version": None, "gpus": (GPU,)}
    return ProfilerTrace(**fields | changes, launches={named or label(): launches})


def one(trace, tmp_path, run=None):
    file = tmp_path / "a.sqlite"
    file.write_bytes(b"")
    (trial,) = figures.summarise(trace, file, run or fixture_run()).trials
    return trial


def test_figures_are_per_call_without_gaps_between_calls(tmp_path):
    launches = [
        TracedLaunch("r01_line_launch_forward", 10_000, 1_000_000 * (i // 1024) * 100 + 15_000 * i)
        for i in range(3 * 1024)
    ]
    trial = one(traced(launches), tmp_path)
    assert (trial.calls, trial.launches, trial.launches_expected) == (3, 1024, 1024)
    assert trial.gpu_ms == pytest.approx(10.24)
    assert trial.gap_ms == pytest.approx(1023 * 0.005)
    assert trial.span_ms == pytest.approx(1024 * 0.010 + 1023 * 0.005)
    assert len(trial.timeline) == 1024
    assert trial.timeline[0].start_us == 0
    assert trial.timeline[1].start_us == pytest.approx(15)
    assert trial.timeline[1].duration_us == pytest.approx(10)


def test_a_busy_stream_is_not_idle_time():
    call = [TracedLaunch("a", 100, 0), TracedLaunch("b", 20, 10), TracedLaunch("c", 10, 110)]
    assert figures.gap_ns(call) == 10
    assert figures.span_ns(call) == 120


def test_the_timeline_is_capped(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "MAX_LAUNCHES", 5)
    launches = [TracedLaunch("r01_line_launch_forward", 1, i) for i in range(1024)]
    trial = one(traced(launches), tmp_path)
    assert len(trial.timeline) == 5
    assert trial.launches == 1024


def test_an_unlabelled_range_belongs_to_the_only_row_that_matches(tmp_path):
    launches = [TracedLaunch("r07_gspn2_forward", 10, 0)]
    trace = ProfilerTrace("nsys", None, (GPU,), {None: launches})
    assert one(trace, tmp_path).rung == "r07"
    twice = fixture_run(extra=({"channels": 4, "rung": "r07", "launches_expected": 1},))
    with pytest.raises(UsageError, match=r"2 cases of .* match"):
        one(trace, tmp_path, twice)


def test_the_runner_reads_a_file_by_its_suffix(tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        runner.read(tmp_path / "a.sqlite")
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match="does not end in any of"):
        runner.read(tmp_path / "a.txt")
