"""Adding profiles to runs: which files are accepted, and which are refused."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gspn2bench.errors import UsageError
from gspn2bench.label import Label
from gspn2bench.profile.nsys import THREAD_BITS
from gspn2bench.records.store import read_profiles, read_run

from ..helpers.profile_fixtures import (
    BEGIN,
    CASE,
    CSV_TITLES,
    GPU,
    PROCESS,
    Kernel,
    csv,
    export,
    fixture_run,
    ingest,
    kernels,
    label,
    refused,
    save,
)

R07 = "r07_gspn2_forward"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "run", fixture_run())


def test_an_export_of_nsys_is_added_and_the_run_is_unchanged(tmp_path, folder):
    before = read_run(folder)
    file = export(tmp_path / "r01.sqlite", kernels(1024, calls=3))
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    assert "1,024" in done.stdout
    added = Path(done.stdout.splitlines()[-1])
    assert added.name.startswith("profile-nsys-")
    (profile,) = read_profiles(folder)
    assert (profile.tool, profile.tool_version, profile.gpu) == ("nsys", "2025.3.1.90", GPU)
    assert profile.file == "r01.sqlite"
    (trial,) = profile.trials
    assert (trial.case, trial.rung, trial.phase, trial.timing) == (CASE, "r01", "forward", "graph")
    assert (trial.calls, trial.launches) == (3, 1024)
    assert trial.gpu_ms == pytest.approx(10.24)
    assert trial.gap_ms == pytest.approx(5.115)
    assert trial.span_ms == pytest.approx(15.355)
    assert {launch.name for launch in trial.timeline} == {"r01_line_launch_forward"}
    assert read_run(folder) == before


def test_a_csv_of_ncu_is_added_without_start_times(tmp_path, folder):
    done = ingest(csv(tmp_path / "r01.csv", 4), folder)
    assert done.exit_code == 0, done.output
    (profile,) = read_profiles(folder)
    (trial,) = profile.trials
    assert (trial.launches, trial.launches_expected) == (4, 1024)
    assert trial.gpu_ms == pytest.approx(0.04)
    assert (trial.gap_ms, trial.span_ms) == (None, None)
    assert {launch.start_us for launch in trial.timeline} == {None}


@pytest.mark.parametrize(("unit", "ms"), [("ns", 0.01), ("us", 10), ("usecond", 10), ("s", 1e7)])
def test_durations_of_ncu_have_units(tmp_path, folder, unit, ms):
    ingest(csv(tmp_path / "r01.csv", 1, unit=unit), folder)
    assert read_profiles(folder)[0].trials[0].gpu_ms == pytest.approx(ms)


def test_a_profile_is_added_once(tmp_path, folder):
    file = csv(tmp_path / "r01.csv", 4)
    assert ingest(file, folder).exit_code == 0
    refused(file, folder, "is already in the run")
    assert ingest(csv(tmp_path / "again.csv", 5), folder).exit_code == 0
    assert len(read_profiles(folder)) == 2


def test_a_damaged_profile_is_reported(folder):
    (folder / "profile-nsys-0.json").write_text(json.dumps({"tool": "nsys"}))
    with pytest.raises(UsageError, match="profile-nsys-0"):
        read_profiles(folder)


def test_a_launch_belongs_to_the_range_of_its_launching_call(tmp_path, folder):
    """Called in the range and run on the GPU after its end, and the other way round."""
    late = Kernel(R07, BEGIN + 900, BEGIN + 1000, BEGIN + 50)
    early = Kernel(R07, BEGIN + 60, BEGIN + 70, BEGIN - 50)
    ranges = [("measure", BEGIN, BEGIN + 100), (str(label("r07")), BEGIN + 1, BEGIN + 100)]
    file = export(tmp_path / "r07.sqlite", [early, late], ranges)
    assert ingest(file, folder).exit_code == 0
    (trial,) = read_profiles(folder)[0].trials
    assert trial.calls == 1
    assert trial.gpu_ms == pytest.approx(100 / 1e6)


@pytest.mark.parametrize("without", [(), ("CUPTI_ACTIVITY_KIND_RUNTIME",)])
def test_without_a_launching_call_the_start_on_the_gpu_decides(tmp_path, folder, without):
    file = export(tmp_path / "r01.sqlite", kernels(1024, called=False), without=without)
    assert ingest(file, folder).exit_code == 0


def test_ranges_of_several_trials_are_separated(tmp_path, folder):
    slivers = kernels(1024)
    bar = Kernel(R07, BEGIN + 10**9, BEGIN + 10**9 + 770_000, BEGIN + 10**9 - 100)
    ranges = [
        ("scenario", 0, BEGIN * 9),
        ("fixture", 1, BEGIN * 9),
        ("measure", BEGIN - 20_000, BEGIN + 10**8),
        (str(label()), BEGIN - 19_000, BEGIN + 10**8),
        ("measure", BEGIN + 9 * 10**8, None),
        (str(label("r07")), BEGIN + 9 * 10**8, None),
    ]
    gate = Kernel(R07, BEGIN + 5 * 10**8, BEGIN + 5 * 10**8 + 1, BEGIN + 5 * 10**8)
    file = export(tmp_path / "both.sqlite", [*slivers, gate, bar], ranges)
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    trials = {trial.rung: trial for trial in read_profiles(folder)[0].trials}
    assert (trials["r01"].calls, trials["r01"].launches) == (1, 1024)
    assert (trials["r07"].calls, trials["r07"].launches) == (1, 1)
    assert trials["r07"].gpu_ms == pytest.approx(0.77)
    assert trials["r07"].gap_ms == 0


@pytest.mark.parametrize("step", [1, -1])
def test_a_launch_belongs_to_the_innermost_labelled_range(tmp_path, folder, step):
    """A range of r07 lies inside one of r01, whose other launches come before and after it."""
    slivers = kernels(1024)
    middle = slivers[500].end + 1_000
    bar = Kernel(R07, middle + 1_000, middle + 2_000, middle + 500)
    ranges = [
        (str(label("r07")), middle, middle + 3_000),
        (str(label()), BEGIN - 20_000, BEGIN + 10**9),
    ]
    file = export(tmp_path / "both.sqlite", [*slivers, bar], ranges[::step])
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    trials = {trial.rung: trial for trial in read_profiles(folder)[0].trials}
    assert {rung: trial.launches for rung, trial in trials.items()} == {"r01": 1024, "r07": 1}


@pytest.mark.parametrize("called", [BEGIN, BEGIN + 10**12])
def test_launches_of_another_process_with_equal_numbers_are_not_of_the_call(
    tmp_path, folder, called
):
    """Two processes count their launches alike, and run at the same time."""
    file = export(tmp_path / "r01.sqlite", kernels(1024))
    other = PROCESS + (1 << THREAD_BITS)
    with closing(sqlite3.connect(file)) as database:
        for table, changes in (
            ("CUPTI_ACTIVITY_KIND_KERNEL", {"globalPid": other}),
            ("CUPTI_ACTIVITY_KIND_RUNTIME", {"globalTid": other | 5, "start": called}),
        ):
            names = [each[1] for each in database.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(str(changes.get(name, f'"{name}"')) for name in names)
            database.execute(f"INSERT INTO {table} SELECT {values} FROM {table}")
        database.commit()
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    (trial,) = read_profiles(folder)[0].trials
    assert (trial.rung, trial.calls, trial.launches) == ("r01", 1, 1024)


def test_a_kernel_of_ncu_belongs_to_the_innermost_label(tmp_path, folder):
    texts = ["measure", str(label("r07")), "measure", str(label())]
    ranges = "140  " + "  ".join(f'"gspn2bench:{text}:none:none:none:none:x:y"' for text in texts)
    file = csv(tmp_path / "r01.csv", 1024, **{CSV_TITLES[4]: ranges})
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    (trial,) = read_profiles(folder)[0].trials
    assert trial.rung == "r01"


def test_memcpy_and_memset_are_launches_too(tmp_path, folder):
    file = export(tmp_path / "r01.sqlite", kernels(1022), memsets=2, graph=False)
    assert ingest(file, folder).exit_code == 0
    names = [launch.name for launch in read_profiles(folder)[0].trials[0].timeline]
    assert names.count("[memset]") == 2


def test_launches_around_a_graph_are_not_part_of_the_call(tmp_path, folder):
    file = export(tmp_path / "r01.sqlite", kernels(1024), memsets=2)
    assert ingest(file, folder).exit_code == 0
    names = {launch.name for launch in read_profiles(folder)[0].trials[0].timeline}
    assert names == {"r01_line_launch_forward"}


LIBRARY: dict[str, Any] = {"launches_expected": None, "launches_observed": 3}
"""Launches of a library's call: observed, but not declared."""
MODULE: dict[str, Any] = {"rung": "gspn2", "part": "module", **LIBRARY}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"phase": "forward"}, ["r01_line_launch_forward"] * 1024),
        ({"phase": "backward"}, ["r01_line_launch_backward"] * 1024),
        (MODULE, ["gemm", "r07_gspn2_forward", "gemm"]),
        (
            {**MODULE, "phase": "train"},
            ["r07_gspn2_forward", "r07_gspn2_backward", "r07_gspn2_weight_sum"],
        ),
        ({"rung": "r07_unfused", "logits": 1, **LIBRARY}, ["softmax", "copy", "r07_gspn2_forward"]),
    ],
    ids=["forward", "backward", "module", "train", "baseline"],
)
@pytest.mark.parametrize("tool", ["nsys", "ncu"])
def test_a_profile_of_every_phase_and_kind_is_read(tmp_path, fields, names, tool):
    run = fixture_run(extra=[fields])
    row = run.rows[-1]
    folder = save(tmp_path / "run", run)
    trial = Label(row.case, row.rung, row.phase, "graph")
    if tool == "nsys":
        launches = [
            each._replace(name=name) for each, name in zip(kernels(len(names)), names, strict=True)
        ]
        end = launches[-1].end
        ranges = [("measure", BEGIN - 20_000, end), (str(trial), BEGIN - 19_000, end)]
        file = export(tmp_path / "a.sqlite", launches, ranges)
    else:
        file = csv(tmp_path / "a.csv", len(names), names[-1], trial)
    done = ingest(file, folder)
    assert done.exit_code == 0, done.output
    (result,) = read_profiles(folder)[0].trials
    assert (result.case, result.rung, result.phase) == (row.case, row.rung, row.phase)
    assert (result.calls, result.launches) == (1, len(names))


def test_a_module_that_runs_forward_has_no_backward_kernel(tmp_path):
    run = fixture_run(extra=[MODULE])
    row = run.rows[-1]
    trial = Label(row.case, row.rung, row.phase, "eager")
    file = csv(tmp_path / "a.csv", 3, "r07_gspn2_backward", trial)
    refused(file, save(tmp_path / "run", run), "r07_gspn2_backward does not belong in the range")


# --- refused files


def inside(trial):
    return [(str(trial), BEGIN - 20_000, BEGIN + 10**9)]


@pytest.mark.parametrize(
    ("launches", "options", "message"),
    [
        (kernels(1024), {"gpu": "Another GPU"}, "recorded on Another GPU, .* on Fixture GPU"),
        (kernels(1023), {}, "1023 launches of r01 .* not a whole number of calls of 1024"),
        (kernels(1025), {}, "1025 launches"),
        (kernels(9, name="r04_shared_forward"), {}, "r04_shared_forward is of r04"),
        (kernels(1024, name=R07), {}, "r07_gspn2_forward does not belong in the range"),
        (
            kernels(1024, name="r01_line_launch_backward"),
            {},
            "backward does not belong in the range",
        ),
        (kernels(1024), {"ranges": inside(label(case="N1 C1 8x8 float32"))}, "no row for N1 C1"),
        (
            kernels(1024),
            {"ranges": inside(label(phase="backward"))},
            "does not belong in the range",
        ),
        (kernels(1), {"ranges": inside(label("mine"))}, "no row for .* mine"),
        (kernels(1, name="x"), {"ranges": inside(label("mine"))}, "no row for .* mine"),
        (
            kernels(1024),
            {"ranges": [("scenario", 0, 10**10), ("fig4", 1, 10**10), *inside(label())]},
            "its scenario is fig4",
        ),
        (kernels(1024), {"ranges": [("measure", 0, 10)]}, "no kernel in an NVTX range measure"),
        (kernels(1024), {"ranges": []}, "no kernel in an NVTX range measure"),
        (kernels(1024), {"without": ["NVTX_EVENTS"]}, "no NVTX ranges; profile with -t cuda,nvtx"),
        (kernels(1), {"without": ["CUPTI_ACTIVITY_KIND_KERNEL"]}, "no kernel"),
    ],
)
def test_an_export_that_does_not_match_is_refused(tmp_path, folder, launches, options, message):
    refused(export(tmp_path / "a.sqlite", launches, **options), folder, message)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"device__attribute_display_name": "Another GPU"}, "recorded on Another GPU"),
        ({"gpu__time_duration.sum": "n/a"}, "kernel 1 has no gpu__time_duration.sum"),
        ({"unit": "cycle"}, "does not have a unit of time"),
        ({"Kernel Name": "r05_block2d_forward"}, "is of r05"),
    ],
)
def test_a_csv_that_does_not_match_is_refused(tmp_path, folder, cells, message):
    refused(csv(tmp_path / "a.csv", 4, **cells), folder, message)


def test_only_whole_calls_of_ncu_are_used(tmp_path, folder):
    file = csv(tmp_path / "a.csv", 2, R07, label("r07", timing="eager"))
    assert ingest(file, folder).exit_code == 0
    (trial,) = read_profiles(folder)[0].trials
    assert (trial.calls, trial.launches, trial.launches_expected) == (2, 1, 1)


def test_a_csv_without_our_ranges_is_refused(tmp_path, folder):
    file = csv(tmp_path / "a.csv", 4)
    file.write_text(file.read_text().replace("gspn2bench:", "other:"))
    refused(file, folder, "no kernel in an NVTX range gspn2bench@measure")


@pytest.mark.parametrize("name", ["a.sqlite", "a.csv"])
@pytest.mark.parametrize("content", [b"", b"\0\xff" * 5000, b"ID,Kernel\n1,2\n"])
def test_other_files_are_refused(tmp_path, folder, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    refused(file, folder, "profile: ")


@pytest.mark.parametrize(
    "run", [{"simulated": True}, {"environment": {"gpu": None}}, {"environment": {}}]
)
def test_a_run_without_a_gpu_has_no_profile(tmp_path, run):
    folder = save(tmp_path / "run", fixture_run(run=run))
    refused(csv(tmp_path / "a.csv", 4), folder, "measured without a GPU")


def test_a_row_without_a_launch_count_matches_nothing(tmp_path):
    folder = save(tmp_path / "run", fixture_run(launches_expected=None, launches_observed=None))
    refused(csv(tmp_path / "a.csv", 4), folder, "has no launch count")
