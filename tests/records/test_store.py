import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gspn2bench.errors import UsageError
from gspn2bench.records import schema, store
from gspn2bench.records.schema import SCHEMA_VERSION, Environment, Record, Row, RunRecord
from gspn2bench.report.summary import summary

RESULTS = Path(__file__).resolve().parents[2] / "results"


def record(run_id: str) -> RunRecord:
    return RunRecord(
        schema_version=SCHEMA_VERSION, run_id=run_id, scenario="s", title="t", description="d",
        source="here", command=["gspn2bench", "sweep", "s"], started_utc=store.utc_now(),
        simulated=True, simulated_reason="no GPU", seed=0, l2="cold",
        environment=Environment(),
    )  # fmt: skip


def row(**changes: object) -> Row:
    fields: dict[str, object] = {
        "scenario": "s", "case": "N1 C1 2x2 float32", "batch": 1, "channels": 1, "height": 2,
        "width": 2, "dtype": "float32", "direction": "down", "chunk": 2, "weights": "channel",
        "seed": 0, "rung": "r07", "phase": "forward", "timing": "graph", "l2": "cold",
        "simulated": False, "latency_ms": 1.0, "samples_ms": (1.0, 1.1), "status": "ok",
    }  # fmt: skip
    return Row.model_validate(fields | changes)


def write_run(results: Path, *rows: Row) -> Path:
    path = store.create_folder(results, "s")
    with store.RunWriter(path, record(path.name)) as writer:
        for one in rows:
            writer.add(one)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write_run(tmp_path, row(), row(status="failed", latency_ms=None, reason="boom"))
    run = store.read_run(path)
    assert run.record.run_id == path.name
    assert [one.status for one in run.rows] == ["ok", "failed"]
    assert run.rows[0].samples_ms == (1.0, 1.1)


def test_a_run_that_was_recorded_before_there_were_bases_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, row())
    file = path / store.RUN_FILE
    plan = {"cases": [], "rungs": ["mine"], "timings": [], "samples": 1, "seconds": 1, "limit_s": 1}
    older = json.loads(file.read_text()) | {"plan": plan}
    del older["base"]
    file.write_text(json.dumps(older))
    read = store.read_run(path).record
    assert read.base is None
    assert read.plan
    assert read.plan.ids == ()


def test_a_run_that_was_recorded_before_there_were_host_times_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, row(timing="eager", host_ms=0.5, host_samples_ms=(0.5, 0.6)))
    (new,) = store.read_run(path).rows
    assert (new.host_ms, new.host_samples_ms) == (0.5, (0.5, 0.6))
    file = path / store.ROWS_FILE
    older = json.loads(file.read_text())
    del older["host_ms"], older["host_samples_ms"]
    file.write_text(json.dumps(older) + "\n")
    (old,) = store.read_run(path).rows
    assert (old.host_ms, old.host_samples_ms) == (None, ())


def environment_of(file: Path) -> str:
    """As it stands in run.json, key by key in order."""
    return json.dumps(json.loads(file.read_text())["environment"])


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/run.json")), ids=lambda path: path.parent.name
)
def test_a_recorded_environment_is_written_back_unchanged(path: Path, tmp_path: Path) -> None:
    record = RunRecord.model_validate_json(path.read_text())
    store.RunWriter(tmp_path, record).update(finished_utc=store.utc_now())
    assert environment_of(tmp_path / store.RUN_FILE) == environment_of(path)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"gpu": None},
        {"gpu": {"name": "Some GPU"}, "host": "here"},
        {"gpu": {"name": "Some GPU", "driver": None, "nvlink": 4}, "kernel": {"lines": [1, 2]}},
    ],
)
def test_an_older_or_newer_environment_is_written_back_unchanged(facts: dict[str, Any]) -> None:
    """Facts that it lacks are not added, and facts that are unknown here are kept."""
    kept = Environment.model_validate(facts)
    assert json.loads(kept.model_dump_json()) == kept.model_dump() == facts


def test_a_fact_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"gpu\.memory_bytes"):
        Environment.model_validate({"gpu": {"memory_bytes": "much"}})


def test_a_row_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    path = store.create_folder(tmp_path, "s")
    with store.RunWriter(path, record(path.name)) as writer:
        writer.add(row())
        assert len(store.read_run(path).rows) == 1
        writer.update(copy_gbps=4000.0)
        assert store.read_run(path).record.copy_gbps == 4000.0


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folders = {store.create_folder(tmp_path, "s") for _ in range(20)}
    assert len(folders) == 20
    path = write_run(tmp_path, row())
    with pytest.raises(FileExistsError):
        store.RunWriter(path, record(path.name))
    assert len(store.read_run(path).rows) == 1


def test_a_results_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(UsageError, match=r"--results: .*file cannot be written"):
        store.create_folder(file, "s")


@pytest.mark.parametrize(
    "field", ["latency_ms", "gate_error", "floor_ms", "clock_mhz", "compile_s"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_nan_enters_a_row(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        row(**{field: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not the JSON of a run"),
        ("[]", "is not the JSON of a run"),
        ("", "is not the JSON of a run"),
        ('{"schema_version": 1, "run_id": "s-2026', "is not the JSON of a run"),
        ("{}", "has no schema version: it was not written by gspn2bench"),
        ('{"schema_version": true}', "has no schema version"),
        ('{"results": [], "version": "2.1"}', "has no schema version"),
        ('{"schema_version": 0}', "has schema version 0, which can't be migrated to a newer one"),
        ("[" * 100_000, "is not the JSON of a run"),
        (
            json.dumps({"schema_version": SCHEMA_VERSION + 1}),
            "has schema version 4, but this gspn2bench reads up to 3",
        ),
        (json.dumps({"schema_version": SCHEMA_VERSION}), "Field required"),
    ],
)
def test_a_run_file_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = write_run(tmp_path)
    (path / store.RUN_FILE).write_text(text)
    with pytest.raises(UsageError, match=message):
        store.read_run(path)


def test_a_damaged_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = write_run(tmp_path, row())
    with (path / store.ROWS_FILE).open("a") as rows:
        rows.write('{"scenario": "s"\n')
    with pytest.raises(UsageError, match=r"rows.jsonl line 2"):
        store.read_run(path)


def test_rows_of_another_tool_are_refused_and_briefly(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    for end in ("", "\n"):
        (path / store.ROWS_FILE).write_text('{"name": "BM_scan", "real_time": 1.5}' + end)
        with pytest.raises(UsageError, match=r"rows.jsonl line 1: .*; and \d+ more") as caught:
            store.read_run(path)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["x" * 1000, "\0", '{"name": "BM_sc', "[1, 2"])
def test_what_was_never_a_row_is_not_a_torn_one(tmp_path: Path, text: str) -> None:
    path = write_run(tmp_path, row())
    with (path / store.ROWS_FILE).open("a") as rows:
        rows.write(text)
    with pytest.raises(UsageError, match=r"rows.jsonl line 2: "):
        store.read_run(path)


def test_rows_cut_in_half_are_those_before_the_cut(tmp_path: Path) -> None:
    rows = [row(seed=seed) for seed in range(9)]
    path = write_run(tmp_path, *rows)
    file = path / store.ROWS_FILE
    whole = file.read_bytes()
    for length in (*range(30), *range(30, len(whole), 97)):
        file.write_bytes(whole[:length])
        run = store.read_run(path)
        ended = whole[:length].count(b"\n")
        assert [one.seed for one in run.rows][:ended] == list(range(ended))
        assert len(run.rows) - ended in (0, 1)
        assert run.torn == (length > 0 and whole[length - 1] != ord("\n"))


@pytest.mark.parametrize("lost", [1, 2, 500])
def test_rows_can_be_added_wherever_the_last_line_was_cut(tmp_path: Path, lost: int) -> None:
    """A cut before the end of the line alone leaves a whole row."""
    path = write_run(tmp_path, row(seed=0), row(seed=1))
    file = path / store.ROWS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-lost])
    run = store.read_run(path)
    assert run.torn == (lost > 1)
    with store.RunWriter(path, run.record, resume=True) as writer:
        aside = store.set_torn_aside(run)
        if run.torn:
            writer.add(row(seed=1))
        writer.add(row(seed=2))
    assert [one.seed for one in store.read_run(path).rows] == [0, 1, 2]
    assert (aside is not None) == run.torn
    if aside:
        assert whole.endswith(aside.read_bytes() + whole[-lost:])


def test_a_file_too_large_to_be_read_is_refused_at_once(tmp_path: Path) -> None:
    path = write_run(tmp_path, row())
    os.truncate(path / store.ROWS_FILE, store.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(UsageError, match=r"536,870,913 bytes, above 536,870,912"):
        store.read_run(path)


def test_a_large_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = write_run(tmp_path, row())
    with (path / store.ROWS_FILE).open("ab") as file:
        file.write(b"\0\n" * 10_000_000)
    begun = time.process_time()
    with pytest.raises(UsageError, match=r"rows.jsonl line 2: Invalid JSON"):
        store.read_run(path)
    assert time.process_time() - begun < 1.0  # it ends at the first line that is not a row


def from_0(model: type[Record], document: dict[str, Any]) -> dict[str, Any]:
    """A version that never was: rows told their rung as a kernel, and runs had no seed."""
    changed = dict(document)
    if model is Row:
        changed["rung"] = changed.pop("kernel")
    if model is RunRecord:
        changed["seed"] = 7
    return changed


def older(path: Path) -> None:
    run = json.loads((path / store.RUN_FILE).read_text()) | {"schema_version": 0}
    del run["seed"]
    (path / store.RUN_FILE).write_text(json.dumps(run))
    rows = path / store.ROWS_FILE
    rows.write_text(rows.read_text().replace('"rung":', '"kernel":'))


def test_an_older_run_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schema.MIGRATIONS, 0, from_0)
    path = write_run(tmp_path, row(), row(rung="r01"))
    was = store.read_run(path)
    older(path)
    run = store.read_run(path)
    assert run.rows == was.rows
    assert (run.record.schema_version, run.record.seed) == (SCHEMA_VERSION, 7)
    before = (path / store.RUN_FILE).read_bytes()
    with pytest.raises(UsageError, match="has an older schema version and can only be read"):
        store.RunWriter(path, run.record, resume=True)
    assert (path / store.RUN_FILE).read_bytes() == before


def test_migrations_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
    steps = {
        1: lambda model, document: document | {"seed": 1, "rung": "r01"},
        2: lambda model, document: document | {"rung": document["rung"] + "b"},
    }
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    text = row(seed=0).model_dump_json()
    assert schema.check_version(1) == 1
    found = schema.upgrade(Row, text, 1)
    assert (found.seed, found.rung) == (1, "r01b")
    assert schema.upgrade(Row, text, 2).rung == "r07b"
    monkeypatch.setattr(schema, "MIGRATIONS", {2: steps[2]})
    with pytest.raises(ValueError, match="schema version 1, which can't be migrated"):
        schema.check_version(1)


def test_a_run_of_version_1_keeps_its_floors(tmp_path: Path) -> None:
    path = write_run(tmp_path, row(floor_ms=0.25))
    first = json.loads((path / store.RUN_FILE).read_text()) | {"schema_version": 1, "step_us": 0.2}
    for name in ("floor_chain", "fma_us", "launch_us", "shuffle_step_us"):
        del first[name]
    (path / store.RUN_FILE).write_text(json.dumps(first))
    rows = json.loads((path / store.ROWS_FILE).read_text())
    del rows["floor_bound"]
    (path / store.ROWS_FILE).write_text(json.dumps(rows) + "\n")
    run = store.read_run(path)
    assert (run.record.floor_chain, run.record.step_us) == ("shared-memory steps", 0.2)
    assert (run.rows[0].floor_ms, run.rows[0].floor_bound) == (0.25, None)
    assert dict(summary(run).facts)["least step"] == "0.200 µs"


def test_a_run_of_version_2_has_no_sample_blocks(tmp_path: Path) -> None:
    path = write_run(tmp_path, row(clock_mhz=1980.0))
    second = json.loads((path / store.RUN_FILE).read_text()) | {"schema_version": 2}
    (path / store.RUN_FILE).write_text(json.dumps(second))
    rows = json.loads((path / store.ROWS_FILE).read_text())
    del rows["block_samples"], rows["block_clocks_mhz"]
    (path / store.ROWS_FILE).write_text(json.dumps(rows) + "\n")
    run = store.read_run(path)
    assert run.record.schema_version == SCHEMA_VERSION
    assert (run.rows[0].block_samples, run.rows[0].block_clocks_mhz) == ((), ())
    assert run.rows[0].clock_mhz == 1980.0


def test_a_new_run_names_the_chain_of_its_floors(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    run = store.read_run(path)
    assert run.record.floor_chain == "dependent FMAs"
    assert dict(summary(run).facts)["floor"] == "not measured"
    with store.RunWriter(path, run.record, resume=True) as writer:
        writer.update(fma_us=0.0022, launch_us=1.5, shuffle_step_us=0.018, step_us=0.027)
    facts = dict(summary(store.read_run(path)).facts)
    assert facts["floor"] == (
        "the longer of bytes at copy bandwidth, and a launch (1.50 µs) with a chain of dependent "
        "FMAs (0.00220 µs each)"
    )
    assert facts["shuffle step, for comparison"] == "0.0180 µs"
    assert facts["shared-memory step, for comparison"] == "0.0270 µs"
    assert "least step" not in facts


@pytest.mark.parametrize("version", [None, SCHEMA_VERSION + 1])
def test_a_profile_of_another_version_is_refused(tmp_path: Path, version: int | None) -> None:
    path = write_run(tmp_path)
    (path / "profile-nsys-0.json").write_text(json.dumps({"schema_version": version}))
    with pytest.raises(UsageError, match="schema version"):
        store.read_profiles(path)


FILL = """
import resource, sys
from pathlib import Path
from gspn2bench.records import store
from gspn2bench.records.schema import Row
path, text = Path(sys.argv[1]), sys.argv[2]
run = store.read_run(path)
size = (path / store.ROWS_FILE).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))  # as a disk that is full
try:
    with store.RunWriter(path, run.record, resume=True) as writer:
        writer.add(Row.model_validate_json(text))
except OSError as error:
    print(error.strerror)
"""


def test_a_write_that_ends_in_mid_line_is_one_error_and_loses_no_row(tmp_path: Path) -> None:
    path = write_run(tmp_path, *(row(seed=seed) for seed in range(4)))
    words = [sys.executable, "-P", "-c", FILL, str(path), row(seed=4).model_dump_json()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "File too large"), done.stderr
    run = store.read_run(path)
    assert [one.seed for one in run.rows] == [0, 1, 2, 3]
    assert run.torn


def test_a_folder_that_is_read_only_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path, row())
    run = store.read_run(path)
    refusal = OSError(errno.EROFS, "Read-only file system")

    def refuse(*arguments: object, **options: object) -> None:
        raise refusal

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"--results: .* cannot be written: Read-only file"):
        store.create_folder(tmp_path / "new", "s")
    with pytest.raises(UsageError, match=r"--results: .* cannot be written: Read-only file"):
        store.RunWriter(path, run.record, resume=True)


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_if_run_json_cannot_be_replaced_the_old_one_stays_whole(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: half of the file is written, or it is not renamed."""
    path = write_run(tmp_path, row())
    before = (path / store.RUN_FILE).read_bytes()

    def write_half(file: Path, text: str, **options: object) -> None:
        file.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with store.RunWriter(path, store.read_run(path).record, resume=True) as writer:
        monkeypatch.setattr(Path, step, write_half if step == "write_text" else refuse)
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            writer.update(finished_utc=store.utc_now())
        monkeypatch.undo()
    assert (path / store.RUN_FILE).read_bytes() == before
    assert store.read_run(path).record.finished_utc is None


def test_a_row_is_flushed_to_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    path = write_run(tmp_path, row(seed=1), row(seed=2))
    lines = (path / store.ROWS_FILE).read_bytes().splitlines(keepends=True)
    assert sizes == [len(lines[0]), len(lines[0]) + len(lines[1])]


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def test_latest_is_the_run_with_the_latest_time_in_its_name(tmp_path: Path) -> None:
    """A git clone keeps names, but neither the order nor the times of files."""
    latest = renamed(write_run(tmp_path), "a-20260102T000000Z-000001")
    earlier = renamed(write_run(tmp_path), "z-20260101T235959Z-ffffff")
    assert store.find_run("latest", tmp_path) == latest
    os.utime(earlier / store.RUN_FILE, (2e9, 2e9))
    os.utime(latest / store.RUN_FILE, (1e9, 1e9))
    assert store.find_run("latest", tmp_path) == latest


@pytest.mark.parametrize("newer", [0, 1])
def test_of_two_runs_of_one_second_latest_is_the_newer_file(newer: int, tmp_path: Path) -> None:
    runs = [renamed(write_run(tmp_path), f"s-20260101T000000Z-00000{i}") for i in range(2)]
    for index, run in enumerate(runs):
        seconds = 2e9 if index == newer else 1e9
        os.utime(run / store.RUN_FILE, (seconds, seconds))
    assert store.find_run("latest", tmp_path) == runs[newer]


def test_a_run_is_found_by_path_name_or_prefix(tmp_path: Path) -> None:
    first, second = write_run(tmp_path), write_run(tmp_path)
    assert store.find_run(str(first), tmp_path) == first
    assert store.find_run(first.name, tmp_path) == first
    assert store.find_run(second.name[:-1], tmp_path) == second
    with pytest.raises(UsageError, match="give a longer prefix"):
        store.find_run("s-", tmp_path)
    with pytest.raises(UsageError, match=f"did you mean {first.name}|{second.name}"):
        store.find_run(first.name[:-1] + "zz", tmp_path)
    with pytest.raises(UsageError, match="contains no run"):
        store.find_run("x", tmp_path / "nowhere")
