"""Runs made up for the tests of analysis and reports: believable numbers, measured by nobody."""

from pathlib import Path
from typing import Any

from gspn2bench.schema import SCHEMA_VERSION, Published, Row, RunRecord
from gspn2bench.store import Run, RunWriter

HOSTILE = "</script><img src=x onerror=alert(1)>"


NO_GATE: dict[str, Any] = {"gate_error": None, "launches_observed": None}
"""What a row lacks that never went through the gate, or came out as NaN."""


def row(**changes: Any) -> Row:
    """A fixture row: r01 on N16 C8 1024x1024, forward, graph time, cold L2, ok."""
    fields: dict[str, Any] = {
        "scenario": "fixture",
        "case": "N16 C8 1024x1024 float32",
        "batch": 16,
        "channels": 8,
        "height": 1024,
        "width": 1024,
        "dtype": "float32",
        "direction": "down",
        "chunk": 1024,
        "weights": "channel",
        "seed": 0,
        "rung": "r01",
        "phase": "forward",
        "timing": "graph",
        "l2": "cold",
        "simulated": False,
        "launches_expected": 1024,
        "launches_observed": 1024,
        "bytes_model": 3_221_225_472,
        "copy_gbps": 4180.0,
        "floor_ms": 0.7706,
        "gate_error": 2.4e-7,
        "gate_tolerance": 1e-5,
        "gate_slices": 16,
        "status": "ok",
    }
    return Row.model_validate(fields | changes)


def timed(latency_ms: float, spread: float = 0.01, **changes: Any) -> Row:
    """A fixture row with a latency and an interval of ``spread`` to either side."""
    interval = {
        "latency_ms": latency_ms,
        "latency_ms_low": latency_ms * (1 - spread),
        "latency_ms_high": latency_ms * (1 + spread),
    }
    return row(**(interval | changes))


def record(**changes: Any) -> RunRecord:
    """A fixture run record on a GPU that does not exist."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "fixture-20260101T000000Z-abc123",
        "scenario": "fixture",
        "title": "Fixture: made-up numbers of the ladder",
        "description": "Made up for tests; nobody measured this.",
        "source": "made up",
        "command": ["gspn2bench", "sweep", "fixture", "--rung", "r01,r07", "-a", "size=[256, 512]"],
        "started_utc": "2026-01-01T00:00:00Z",
        "finished_utc": "2026-01-01T00:01:00Z",
        "simulated": False,
        "seed": 0,
        "l2": "cold",
        "environment": {
            "gpu": {"name": "Fixture GPU", "memory_bytes": 1 << 37, "sms": 132},
            "driver": "000.00",
            "packages": {"numba": "0.0", "torch": "0.0"},
            "git": {"commit": "0" * 40, "dirty": False},
        },
        "copy_gbps": 4180.0,
        "copy_samples_gbps": [4160.0, 4180.0, 4190.0],
        "step_us": 0.19,
    }
    return RunRecord.model_validate(fields | changes)


def real_run() -> Run:
    """A run with latencies in three timings, published figures, failures and a backward pass."""
    small = {
        "case": "N1 C64 256x256 float32",
        "batch": 1,
        "channels": 64,
        "height": 256,
        "width": 256,
        "chunk": 256,
        "bytes_model": 100_663_296,
        "floor_ms": 0.0486,
    }
    one = {"launches_expected": 1, "launches_observed": 1}
    few = {"launches_expected": 256, "launches_observed": 256}
    right = {"direction": "right"}
    rows = []
    for timing, scale in (("eager", 1.3), ("graph", 1.02), ("device", 1.0)):
        how = {"timing": timing}
        rows += [
            timed(31.6 * scale, **right, **how),
            timed(28.9 * scale, rung="r02", **right, **one, **how),
            timed(1.39 * scale, rung="r03", spread=0.06, **one, **how),
            row(rung="r06", status="incorrect", reason="h[3, 0, 1, 2] is nan", **NO_GATE, **how),
            timed(0.77 * scale, rung="r07", bytes_dram=3_260_000_000, **one, **how),
            timed(1.32 * scale, **small, **right, **few, **how),
            row(
                rung="r02", status="skipped", reason="needs 512 columns", **small, **NO_GATE, **how
            ),
            timed(0.083 * scale, rung="r07", bytes_dram=104_000_000, **small, **one, **how),
        ]
    back = {"phase": "backward", "bytes_model": 6_442_450_944, "floor_ms": 1.541}
    rows += [
        timed(77.0, **back, **right),
        row(
            rung="r07", status="oom", reason="needs 150.3 GB, 139.8 GB are free", **NO_GATE, **back
        ),
    ]
    fig = "GSPN-2 (arXiv 2512.07884), Figure 3"
    where = {"batch": 16, "channels": 8, "height": 1024, "width": 1024, "phase": "forward"}
    published = [
        Published(rung=rung, latency_ms=ms, machine="NVIDIA A100", source=fig, where=where)
        for rung, ms in (("r01", 71.4), ("r02", 57.4), ("r03", 2.4), ("r07", 1.8))
    ]
    return Run(Path("fixture"), record(published=published), tuple(rows))


def simulated_run() -> Run:
    """A run of the simulator: gates, launches and traced bytes, no latency."""
    case = {
        "case": "N1 C2 16x16 float32",
        "batch": 1,
        "channels": 2,
        "height": 16,
        "width": 16,
        "chunk": 16,
        "bytes_model": 12288,
        "copy_gbps": None,
        "floor_ms": None,
        "simulated": True,
        "timing": "device",
        "gate_slices": 2,
    }
    ragged = {"case": "N1 C1 13x63 float32", "channels": 1, "height": 13, "width": 63, "chunk": 13}
    rows = (
        row(**case | {"launches_expected": 16, "launches_observed": 16, "bytes_traced": 98304}),
        row(
            **case
            | {"rung": "r07", "launches_expected": 1, "launches_observed": 1}
            | {"bytes_traced": 12288}
        ),
        row(
            **case
            | ragged
            | {"launches_expected": 63, "launches_observed": 63, "bytes_model": 19656}
            | {"bytes_traced": 157248, "gate_error": 3.1e-7}
        ),
        row(
            **case
            | ragged
            | {
                "rung": "r07",
                "status": "skipped",
                "reason": "needs warp shuffles: no simulator has",
            }
            | NO_GATE
        ),
    )
    run = record(
        run_id="quick-20260101T000000Z-51a71d",
        title="Fixture: a run of the simulator",
        simulated=True,
        simulated_reason="no CUDA driver was found",
        environment={"host": "fixture-host", "cpu": "Fixture CPU"},
        copy_gbps=None,
        copy_samples_gbps=(),
        step_us=None,
    )
    return Run(Path("simulated"), run, rows)


def hostile_run(name: str = HOSTILE) -> Run:
    """The real run with every free name replaced by a hostile one."""
    base = real_run()
    rows = tuple(
        r.model_copy(
            update={
                "scenario": name,
                "case": name,
                "rung": r.rung + name,
                "reason": name,
                "throttle": name,
            }
        )
        for r in base.rows
    )
    figures = [Published(rung="r07" + name, latency_ms=1.8, machine=name, source=name, where={})]
    hostile = record(
        scenario=name,
        title=name,
        description=name,
        source=name,
        command=["gspn2bench", "sweep", name],
        environment={"gpu": {"name": name}, "host": name, name: name},
        published=figures,
        run_id=name,
    )
    return Run(Path("hostile"), hostile, rows)


def save(run: Run, results: Path) -> Path:
    """Write a run into a results folder, as a sweep would; returns its folder."""
    path = results / run.record.run_id
    path.mkdir(parents=True)
    with RunWriter(path, run.record) as writer:
        for line in run.rows:
            writer.add(line)
    return path
