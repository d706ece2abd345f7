"""Shards of a sweep in the simulator, merged: the rows of the whole sweep, or what is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gspn2bench.app import app
from gspn2bench.errors import UsageError
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.records.store import Run, read_run
from gspn2bench.run import merge

pytestmark = pytest.mark.skipif(not SIMULATED, reason="compares rows that have no latencies")

SCENARIO = """
title = "t"
description = "d"
source = "s"
rungs = ["r07", "r01"]

[axes]
channels = [1, 2, 3, 4]
batch = 1
size = 2
phase = ["forward"]
"""


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the whole sweep, in whole/, and its three shards, in 1/, 2/ and 3/."""
    root = tmp_path_factory.mktemp("shards")
    file = root / "tiny.toml"
    file.write_text(SCENARIO)
    assert invoke("sweep", file, "--results", root / "whole", "-q").exit_code == 0
    for index in (1, 2, 3):
        result = invoke("sweep", file, "--shard", f"{index}/3", "--results", root / str(index))
        assert result.exit_code == 0
    return root


@pytest.fixture
def shards(recorded: Path, tmp_path: Path) -> list[Path]:
    """Copies of the three shards."""
    paths = [only(recorded / index) for index in "123"]
    return [Path(shutil.copytree(path, tmp_path / "runs" / path.name)) for path in paths]


def edit(path: Path, **changes: Any) -> None:
    """Change run.json; a key "a.b" stands for a field of a field."""
    document = json.loads((path / "run.json").read_text())
    for key, value in changes.items():
        *outer, last = key.split("__")
        target = document
        for name in outer:
            target = target[name]
        target[last] = value
    (path / "run.json").write_text(json.dumps(document))


def runs(paths: list[Path]) -> list[Run]:
    return [read_run(path) for path in paths]


def test_merged_shards_have_the_rows_of_the_whole_sweep(
    recorded: Path, shards: list[Path], tmp_path: Path
) -> None:
    result = invoke("merge", *reversed(shards), "--results", tmp_path / "merged")
    assert result.exit_code == 0, result.output
    whole, merged = read_run(only(recorded / "whole")), read_run(only(tmp_path / "merged"))
    assert result.stdout.strip() == str(merged.path)
    assert merged.rows == whole.rows
    assert len(merged.rows) == 8
    assert {row.host for row in merged.rows} == {whole.record.environment.host}
    assert merged.record.plan == whole.record.plan
    assert merged.record.environment == whole.record.environment
    assert merged.record.merged == tuple(path.name for path in shards)
    assert merged.record.finished_utc is not None


def test_a_shard_runs_its_own_cases_only(shards: list[Path]) -> None:
    channels = [sorted({row.channels for row in run.rows}) for run in runs(shards)]
    assert channels == [[1, 4], [2], [3]]


def test_an_empty_shard_records_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(SCENARIO)
    result = invoke("sweep", file, "--shard", "5/6", "--results", tmp_path / "results")
    assert result.exit_code == 0
    assert "shard 5/6 is empty: 4 cases" in result.stderr
    assert not (tmp_path / "results").exists()


def test_missing_shards_are_named_and_nothing_is_written(
    shards: list[Path], tmp_path: Path
) -> None:
    edit(shards[1], finished_utc=None)
    result = invoke("merge", *shards[:2], "--results", tmp_path / "merged")
    assert result.exit_code == 3
    assert f"shard 2/3, {shards[1].name}, is not finished" in result.stderr
    assert "shard 3/3 is missing: 1 case (N1 C3 2x2 float32 forward)" in result.stderr
    assert not (tmp_path / "merged").exists()


def test_a_partial_merge_is_completed_by_resume(
    recorded: Path, shards: list[Path], tmp_path: Path
) -> None:
    result = invoke("merge", *shards[1:], "--partial", "--results", tmp_path / "merged", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["missing"][0].startswith("shard 1/3 is missing: 2 cases")
    assert invoke("sweep", "--resume", document["path"]).exit_code == 0
    whole, merged = read_run(only(recorded / "whole")), read_run(only(tmp_path / "merged"))
    assert sorted(merged.rows, key=lambda row: (row.channels, row.rung)) == sorted(
        whole.rows, key=lambda row: (row.channels, row.rung)
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"scenario": "other"}, "the scenario differs"),
        ({"seed": 7}, "the seed differs"),
        ({"environment__source__sha256": "0"}, "the source differs"),
        ({"environment__gpu": {"name": "NVIDIA H100"}}, "the GPU differs"),
        ({"l2": "warm"}, "the state of the L2 cache differs"),
        ({"simulated": False}, "the backend differs"),
        ({"plan__limit_s": 7.0}, "the limit_s of the plan differ"),
        ({"plan__shard": {"index": 2, "count": 4}}, "the number of shards differs"),
        ({"plan__shard": {"index": 1, "count": 3}}, "are both shard 1/3"),
        ({"plan__shard": None}, "was not recorded with --shard"),
        ({"plan": None}, "is not a run of sweep"),
        ({"schema_version": 1}, "has schema version 1"),
    ],
)
def test_runs_of_different_sweeps_are_refused(
    changes: dict[str, Any], name: str, shards: list[Path]
) -> None:
    edit(shards[1], **changes)
    with pytest.raises(UsageError, match=name):
        merge.join(runs(shards))


def test_rows_outside_the_shard_or_twice_are_refused(shards: list[Path]) -> None:
    rows = shards[1] / "rows.jsonl"
    text = rows.read_text()
    rows.write_text(text + (shards[0] / "rows.jsonl").read_text())
    with pytest.raises(UsageError, match="a case that is not in shard 2/3: N1 C1 2x2"):
        merge.join(runs(shards))
    rows.write_text(text + text)
    with pytest.raises(UsageError, match="has a row twice: r07, N1 C2 2x2"):
        merge.join(runs(shards))
    rows.write_text(text[:-9])
    with pytest.raises(UsageError, match="is torn; fix: gspn2bench sweep --resume"):
        merge.join(runs(shards))


def test_ceilings_are_medians_and_hosts_that_differ_are_left_to_the_rows(
    shards: list[Path],
) -> None:
    for path, gbps in zip(shards, (10.0, 30.0, 20.0), strict=True):
        edit(path, copy_gbps=gbps, copy_samples_gbps=[gbps], environment__host=path.name)
    record = merge.join(runs(shards)).record
    assert record.copy_gbps == 20
    assert record.copy_samples_gbps == (10, 30, 20)
    assert record.environment.host is None
