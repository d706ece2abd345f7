"""Reports that their tool exports first: results and errors are attributed to the report."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from gspn2bench.errors import UsageError
from gspn2bench.profile import runner
from gspn2bench.records.store import add_profile, read_profiles
from gspn2bench.system import executables

from ..helpers.profile_fixtures import csv, export, fixture_run, ingest, kernels, refused, save

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "run", fixture_run())


@pytest.fixture
def exporter(tmp_path, monkeypatch):
    """Install a stand-in for nsys or ncu that exports a prepared file."""

    def plant(name: str, exported: Path) -> None:
        tool = tmp_path / name
        how = "sys.argv[sys.argv.index('--output') + 1]" if name == "nsys" else "'/dev/stdout'"
        tool.write_text(
            f"#!{sys.executable}\nimport pathlib, sys\n"
            f"pathlib.Path({how}).write_bytes(pathlib.Path({str(exported)!r}).read_bytes())\n"
        )
        tool.chmod(0o755)
        monkeypatch.setattr(executables, f"find_{name}", lambda: tool)

    return plant


def test_a_report_is_exported_by_its_tool(tmp_path, folder, exporter):
    exporter("nsys", export(tmp_path / "export-of-nsys.sqlite", kernels(1024)))
    file = tmp_path / "r01.nsys-rep"
    file.touch()
    assert ingest(file, folder).exit_code == 0
    assert read_profiles(folder)[0].file == "r01.nsys-rep"
    tool = tmp_path / "nsys"
    tool.write_text("#!/bin/sh\necho cannot import >&2; exit 1\n")
    refused(file, folder, "export failed: cannot import; try nsys export --type sqlite")
    tool.write_text("#!/bin/sh\n")
    refused(file, folder, "nsys wrote no export")


def reports(tmp_path, exporter):
    """A profile of each tool as its report and as its export."""
    pairs = (
        ("nsys", ".nsys-rep", export(tmp_path / "a.sqlite", kernels(1024))),
        ("ncu", ".ncu-rep", csv(tmp_path / "a.csv", 4)),
    )
    for name, suffix, exported in pairs:
        exporter(name, exported)
        report = tmp_path / f"a{suffix}"
        report.write_bytes(b"a format of the tool's own")
        yield report, exported


def test_a_report_and_its_export_are_one_profile(tmp_path, exporter):
    for number, (report, exported) in enumerate(reports(tmp_path, exporter)):
        for first, second in ((report, exported), (exported, report)):
            folder = save(tmp_path / f"{number}{first.suffix}", fixture_run())
            assert ingest(first, folder).exit_code == 0
            refused(second, folder, f"{second.name} is already in the run, from {first.name}")


def test_profiles_recorded_before_are_read_and_not_added_again(tmp_path):
    """Their files are named by the hash of the report, but profiles are compared by content."""
    recorded = [path for path in RESULTS.iterdir() if list(path.glob("profile-*.json"))]
    assert recorded
    for path in recorded:
        folder = tmp_path / path.name
        shutil.copytree(path, folder)
        profiles = read_profiles(folder)
        assert len(profiles) == len({profile.content for profile in profiles})
        for profile in profiles:
            other = profile.model_copy(update={"sha256": "0" * 64, "file": "other.csv"})
            with pytest.raises(
                UsageError, match=f"already in the run, from {re.escape(profile.file)}"
            ):
                add_profile(folder, other)


def damaged_exports(tmp_path):
    """Exports that are refused, with the suffix of their report."""
    text = csv(tmp_path / "page.csv", 4).read_text()
    files = {
        ".nsys-rep": [
            export(tmp_path / "1", kernels(9), without=["NVTX_EVENTS"]).read_bytes(),
            export(tmp_path / "2", kernels(9), ranges=[]).read_bytes(),
            b"not a database" * 99,
        ],
        ".ncu-rep": [
            b"",
            text.replace("gspn2bench:", "other:").encode(),
            text.replace("gpu__time_duration.sum", "other").encode(),
            text.replace('"ns"', '"cycle"').encode(),
            text.replace("10,000", "nan").encode(),
        ],
    }
    return [(suffix, content) for suffix, contents in files.items() for content in contents]


def test_a_refusal_names_the_file_of_the_user(tmp_path, folder, exporter):
    exported = tmp_path / "exported"
    for suffix, content in damaged_exports(tmp_path):
        exported.write_bytes(content)
        exporter("nsys" if suffix == ".nsys-rep" else "ncu", exported)
        file = tmp_path / f"mine{suffix}"
        file.touch()
        done = ingest(file, folder)
        assert isinstance(done.exception, UsageError), done.output
        assert str(done.exception).startswith(f"profile: {file}: ")
        paths = re.findall(r"/[\w./-]+", str(done.exception))
        assert set(paths) <= {str(file), str(file.with_suffix(".csv"))}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "cannot write $5" >&2; exit 1', "the export failed: cannot write the export; try"),
        ('echo "$(dirname $5) is full"; exit 1', "the export failed: a temporary folder is full"),
        ("sleep 60", "the export failed: .*nsys took more than 0.2 s; try nsys export"),
        ("exit 0", "nsys wrote no export; try nsys export"),
    ],
)
def test_a_failed_tool_is_reported_without_the_temporary_export(
    tmp_path, folder, exporter, monkeypatch, script, message
):
    monkeypatch.setattr(runner, "EXPORT_SECONDS", 0.2 if "sleep" in script else 60)
    exporter("nsys", tmp_path)
    (tmp_path / "nsys").write_text(f"#!/bin/sh\n{script}\n")
    file = tmp_path / "mine.nsys-rep"
    file.touch()
    refused(file, folder, f"^profile: {re.escape(str(file))}: {message}")


@pytest.mark.parametrize(
    ("name", "how"),
    [("a.nsys-rep", "nsys export --type sqlite"), ("a.ncu-rep", "ncu --import .* --page raw")],
)
def test_a_report_without_its_tool_says_how_to_export_it(tmp_path, folder, monkeypatch, name, how):
    monkeypatch.setattr(executables, "find_nsys", lambda: None)
    monkeypatch.setattr(executables, "find_ncu", lambda: None)
    (tmp_path / name).touch()
    refused(tmp_path / name, folder, how)
