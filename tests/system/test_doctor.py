import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gspn2bench.commands.doctor import doctor as command
from gspn2bench.nvtx_ranges import RECORDED, SILENT
from gspn2bench.system import doctor, executables, management, nvtx_probe
from gspn2bench.system.doctor import Check
from gspn2bench.system.management import ClockLimits


def put(root: Path, *places: str) -> None:
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_the_newest_ncu_is_found(empty_path: Path) -> None:
    assert executables.find_ncu(empty_path) is None
    put(empty_path, "opt/nvidia/nsight-compute/2025.9.1/ncu")
    put(empty_path, "opt/nvidia/nsight-compute/2025.10.0/ncu")
    found = executables.find_ncu(empty_path)
    assert found == empty_path / "opt/nvidia/nsight-compute/2025.10.0/ncu"


def test_nsys_is_also_found_inside_nsight_compute(empty_path: Path) -> None:
    assert executables.find_nsys(empty_path) is None
    bundled = "opt/nvidia/nsight-compute/2025.3.1/host/target-linux-x64/nsys"
    put(empty_path, bundled)
    assert executables.find_nsys(empty_path) == empty_path / bundled
    own = "opt/nvidia/nsight-systems/2024.1/bin/nsys"
    put(empty_path, own)
    assert executables.find_nsys(empty_path) == empty_path / own


def test_the_path_comes_first(empty_path: Path) -> None:
    put(empty_path, "bin/ncu", "bin/nsys", "bin/chromium", "bin/chromedriver")
    put(empty_path, "opt/nvidia/nsight-compute/2025.9.1/ncu")
    assert executables.find_ncu(empty_path) == empty_path / "bin/ncu"
    assert executables.find_nsys(empty_path) == empty_path / "bin/nsys"
    assert executables.find_chromium() == empty_path / "bin/chromium"
    assert executables.find_chromedriver() == empty_path / "bin/chromedriver"


@pytest.mark.parametrize(
    ("parameters", "capabilities", "answer"),
    [
        ("RmProfilingAdminOnly: 0\n", "0", "yes"),
        ("RmProfilingAdminOnly: 1\n", "000001ffffffffff", "yes"),
        ("RmProfilingAdminOnly: 1\n", "0000000000200000", "yes"),
        ("RmProfilingAdminOnly: 1\n", "000001ffffdfffff", "no"),
        ("RmProfilingAdminOnly: 1\n", "0", "no"),
        ("RmProfilingAdminOnly: 1\n", None, "no"),
        ("Other: 1\n", "000001ffffffffff", "unknown"),
        (None, "000001ffffffffff", "unknown"),
    ],
)
def test_counters(
    tmp_path: Path, parameters: str | None, capabilities: str | None, answer: str
) -> None:
    params, status = tmp_path / "params", tmp_path / "status"
    if parameters is not None:
        params.write_text("ResmanDebugLevel: 4294967295\n" + parameters)
    if capabilities is not None:
        status.write_text(f"Name:\tpython\nCapEff:\t{capabilities}\n")
    check = doctor.check_counters(params, status)
    assert check.answer == answer
    assert bool(check.fix) == (answer != "yes")


def test_a_browser_without_its_driver_is_not_enough(empty_path: Path) -> None:
    assert doctor.check_chromium().answer == "no"
    put(empty_path, "bin/chromium")
    assert doctor.check_chromium().detail.endswith("without chromedriver")
    put(empty_path, "bin/chromedriver")
    assert doctor.check_chromium() == Check("chromium", "yes", str(empty_path / "bin/chromium"))


@pytest.mark.parametrize(
    ("versions", "answer", "detail"),
    [
        ({}, "no", "not installed"),
        ({"numba-cuda": "1"}, "unknown", "NVRTC is not installed with pip"),
        ({"numba-cuda": "1", "nvidia-cuda-nvrtc": "13.0"}, "yes", "NVRTC 13.0 (cu13)"),
        ({"numba-cuda": "1", "nvidia-cuda-nvrtc-cu12": "12.9"}, "yes", "NVRTC 12.9 (cu12)"),
    ],
)
def test_compiler(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], answer: str, detail: str
) -> None:
    monkeypatch.setattr(doctor, "package_version", versions.get)
    check = doctor.check_compiler()
    assert check.answer == answer
    assert detail in check.detail


@pytest.mark.parametrize(
    ("reason", "answer", "fix"),
    [
        (None, "yes", ""),
        ("the NVIDIA driver finds no GPU", "yes", ""),
        ("torch 9.9 is built without CUDA", "no", doctor.FIX_TORCH),
    ],
)
def test_torch_is_at_fault_only_where_its_build_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, reason: str | None, answer: str, fix: str
) -> None:
    monkeypatch.setattr(doctor, "cuda_unavailable_reason", lambda: reason)
    check = doctor.check_torch()
    assert (check.answer, check.fix) == (answer, fix)


def nsys(root: Path, place: str, state: str) -> Path:
    """A stand-in for nsys that answers the probe."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{state}'\n")
    path.chmod(0o755)
    return path


def test_nsys_is_asked_whether_it_records_ranges(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nsys(empty_path, "nsight/target-linux-x64/nsys", SILENT)
    monkeypatch.setattr(executables, "find_nsys", lambda: path)
    check = doctor.check_nsys()
    assert (check.answer, check.fix) == ("no", nvtx_probe.FIX)
    assert check.detail.startswith(f"{path}: this nsys does not record the ranges of nvtx ")
    nsys(empty_path, "nsight/target-linux-x64/nsys", RECORDED)
    check = doctor.check_nsys()
    assert (check.answer, check.fix) == ("unknown", doctor.FIX_IMPORTER)
    put(empty_path, "nsight/host-linux-x64/QdstrmImporter")
    assert doctor.check_nsys() == Check("nsys", "yes", str(path))


def test_the_importer_is_beside_nsys_or_in_its_usual_place(empty_path: Path) -> None:
    bundled = empty_path / "opt/nvidia/nsight-compute/2025.3.1/host/target-linux-x64/nsys"
    script = empty_path / "bin/nsys"
    put(empty_path, "bin/nsys", str(bundled.relative_to(empty_path)))
    assert executables.find_importer(script, empty_path) is None
    importer = "usr/lib/nsight-systems/host-linux-x64/QdstrmImporter"
    put(empty_path, importer)
    assert executables.find_importer(script, empty_path) == empty_path / importer
    assert executables.find_importer(bundled, empty_path) is None


@pytest.mark.parametrize(
    ("limits", "answer", "words"),
    [
        (ClockLimits(), "unknown", "NVML does not report the clocks"),
        (ClockLimits(True, False, 1410, 1980, 1410), "yes", "1410 MHz, default 1980 MHz, now 1410"),
        (ClockLimits(True, False, None, None, 1200), "yes", "limits the clock: now 1200 MHz"),
        (ClockLimits(False, True, 1410, 1980, 345), "yes", "1410 MHz, default 1980 MHz, now 345"),
        (ClockLimits(False, False, 1980, 1980, 1965), "no", "clock 1980 MHz, now 1965 MHz"),
        (ClockLimits(False, True, 1980, 1980, 345), "unknown", "the GPU is idle"),
        (ClockLimits(None, False, 1980, 1980, None), "unknown", "NVML does not report"),
    ],
)
def test_locked_clocks(
    limits: ClockLimits, answer: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "clock_limits", lambda: limits)
    check = doctor.check_clocks()
    assert check.answer == answer
    assert words in check.detail
    assert bool(check.fix) == (answer != "yes")


def test_every_check_answers_here() -> None:
    checks = doctor.examine()
    assert [check.name for check in checks] == [
        "GPU",
        "torch",
        "numba-cuda",
        "simulator",
        "ncu",
        "nsys",
        "counters",
        "locked clocks",
        "chromium",
    ]
    for check in checks:
        assert check.detail
        assert check.fix or check.answer == "yes"


def test_command_informs_and_exits_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("ncu", "no", "[red]not[/] found", "install [cu13]"), Check("GPU", "yes", "one")]
    fields = [
        {"name": "ncu", "answer": "no", "detail": "[red]not[/] found", "fix": "install [cu13]"},
        {"name": "GPU", "answer": "yes", "detail": "one", "fix": ""},
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert "[red]not[/] found" in result.output
    assert "fix: install [cu13]" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert CliRunner().invoke(app, ["--quiet"]).output == "ncu\n"
    assert json.loads(CliRunner().invoke(app, ["--json"]).output) == {"checks": fields}
