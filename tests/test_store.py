import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from gspn2bench import store
from gspn2bench.errors import UsageError
from gspn2bench.schema import SCHEMA_VERSION, Row, RunRecord


def record(run_id: str) -> RunRecord:
    return RunRecord(
        schema_version=SCHEMA_VERSION, run_id=run_id, scenario="s", title="t", description="d",
        source="here", command=["gspn2bench", "sweep", "s"], started_utc=store.utc_now(),
        simulated=True, simulated_reason="no GPU", seed=0, l2="cold", environment={},
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
        ("not json", "is not JSON of a run"),
        ("[]", "is not JSON of a run"),
        ("{}", "has schema version None"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}), "has schema version 2, this is 1"),
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


def test_a_run_is_found_by_path_name_prefix_or_latest(tmp_path: Path) -> None:
    first, second = write_run(tmp_path), write_run(tmp_path)
    assert store.find_run(str(first), tmp_path) == first
    assert store.find_run(first.name, tmp_path) == first
    assert store.find_run(second.name[:-1], tmp_path) == second
    assert store.find_run("latest", tmp_path) in (first, second)
    with pytest.raises(UsageError, match="give more of one"):
        store.find_run("s-", tmp_path)
    with pytest.raises(UsageError, match=f"did you mean {first.name}|{second.name}"):
        store.find_run(first.name[:-1] + "zz", tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        store.find_run("x", tmp_path / "nowhere")
