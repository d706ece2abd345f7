"""Synthetic runs for the tests of analysis and reports; their numbers were not measured."""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from gspn2bench.baselines.modules import MODULES
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Rung
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.problem import PARTS, WEIGHTS, Direction
from gspn2bench.records.schema import (
    SCHEMA_VERSION,
    Launch,
    Profile,
    ProfiledTrial,
    Published,
    Row,
    RunRecord,
)
from gspn2bench.records.store import Run, RunWriter
from gspn2bench.run.trial import Settings, Trial

HOSTILE = "</script><img src=x onerror=alert(1)>"
CASE = Case(16, 8, 1024, 1024)
CASE_FIELDS = frozenset(field.name for field in dataclasses.fields(Case))
CEILINGS = Ceilings(copy_samples_gbps=(4180.0,), fma_us=0.09, launch_us=2.0)

NO_GATE: dict[str, Any] = {"gate_error": None, "launches_observed": None}
"""Fields of a row that did not reach the gate, or whose result was NaN."""


@cache
def recorded(case: Case, native: Direction = "down") -> dict[str, Any]:
    """The fields that a sweep records for a case before it is measured, such as its label.

    Args:
        case: a scan, of a rung with one launch per line, or the case of a module.
        native: the direction that the rung uses if the case does not fix one.
    """

    def unused(*arguments: object) -> Any:
        raise AssertionError("a fixture never runs")

    rung = Rung("r01", "", "", "", native, unused, lambda problem: problem.steps)
    subject = rung if case.part == "kernel" else MODULES["gspn2"]
    facts = Trial(case, subject, Settings("fixture"), CEILINGS).columns("graph")
    return facts | {"simulated": False, "launches_observed": facts["launches_expected"]}


def cases_of_every_kind() -> list[Case]:
    """One case for every combination of the parts of a case's label."""
    scans = [
        Case(4, 3, *size, weights=weights, logits=logits, chunk=chunk, **way)
        for size in ((64, 64), (16, 64), (64, 16))
        for weights in WEIGHTS
        for logits in (0, 1)
        for chunk in (None, 8, 16)
        for way in ({}, {"direction": "up"}, {"direction": "left"}, {"directions": 4})
    ]
    modules = [
        Case(4, 3, 16, 64, "bfloat16", part=part, proxy=proxy)
        for part in PARTS
        if part != "kernel"
        for proxy in (None, 2)
    ]
    return scans + modules


def row(*, native: Direction = "down", **changes: Any) -> Row:
    """A fixture row: r01 on N16 C8 1024x1024, forward, graph time, cold L2, ok.

    Args:
        native: the direction that the rung uses if the case does not fix one.
        changes: fields of ``Case`` change the case, and with it the recorded fields; fields of
            ``Row`` replace those of the row.
    """
    of_case = {name: changes.pop(name) for name in CASE_FIELDS & changes.keys()}
    measured: dict[str, Any] = {
        "timing": "graph",
        "gate_error": 2.4e-7,
        "gate_tolerance": 1e-5,
        "gate_slices": 16,
        "status": "ok",
    }
    facts = recorded(dataclasses.replace(CASE, **of_case), native)
    return Row.model_validate(facts | measured | changes)


def timed(latency_ms: float, spread: float = 0.01, **changes: Any) -> Row:
    """A fixture row with a latency and an interval of ``spread`` on either side."""
    interval = {
        "latency_ms": latency_ms,
        "latency_ms_low": latency_ms * (1 - spread),
        "latency_ms_high": latency_ms * (1 + spread),
    }
    return row(**(interval | changes))


def record(**changes: Any) -> RunRecord:
    """A fixture run record of a fictitious GPU."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "fixture-20260101T000000Z-abc123",
        "scenario": "fixture",
        "title": "Fixture: made-up numbers of the ladder",
        "description": "Synthetic, for tests.",
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
        "fma_us": 0.09,
        "launch_us": 2.0,
        "shuffle_step_us": 0.15,
        "step_us": 0.19,
    }
    return RunRecord.model_validate(fields | changes)


def real_run() -> Run:
    """A run with latencies in three timings, published figures, failures and a backward phase."""
    small = {"batch": 1, "channels": 64, "height": 256, "width": 256}
    one = {"launches_expected": 1, "launches_observed": 1}
    right: dict[str, Any] = {"native": "right"}
    rows = []
    for timing, scale in (("eager", 1.3), ("graph", 1.02), ("device", 1.0)):
        how = {"timing": timing}
        rows += [
            timed(31.6 * scale, **right, **how),
            timed(28.9 * scale, rung="r02", **right, **one, **how),
            timed(1.39 * scale, rung="r03", spread=0.06, **one, **how),
            row(rung="r06", status="incorrect", reason="h[3, 0, 1, 2] is nan", **NO_GATE, **how),
            timed(0.77 * scale, rung="r07", bytes_dram=3_260_000_000, **one, **how),
            timed(1.32 * scale, **small, **right, **how),
            row(
                rung="r02", status="skipped", reason="needs 512 columns", **small, **NO_GATE, **how
            ),
            timed(0.083 * scale, rung="r07", bytes_dram=104_000_000, **small, **one, **how),
        ]
    back = {"phase": "backward"}
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


def sweep_run(**changes: Any) -> Run:
    """A run over sizes, channels and batches with two types, two phases and two timings.

    A latency is a cost per launch plus a time per byte. Small cases have a warm L2.
    """
    shapes = [(16, 8, size) for size in (64, 128, 256, 512)]
    shapes += [(n, c, 256) for n in (1, 4, 16) for c in (4, 8, 32) if (n, c) != (16, 8)]
    rows = []
    for dtype in ("float32", "float16"):
        for batch, channels, size in shapes:
            for phase in ("forward", "backward"):
                case: dict[str, Any] = {
                    "batch": batch,
                    "channels": channels,
                    "height": size,
                    "width": size,
                    "dtype": dtype,
                    "phase": phase,
                }
                model = row(**case).bytes_model or 0
                case["l2"] = "cold" if model > 10_000_000 else "warm"
                for rung, launches, native, gaps in (
                    ("r01", size, "right", 0.1),
                    ("r07", 1, "down", 0.02),
                ):
                    for timing, over in (("graph", 1.0), ("device", 1.0 - gaps)):
                        latency = over * (0.002 * launches + 1.2 * model / 4180e6)
                        samples = [latency * (1 + 0.001 * (index % 7 - 3)) for index in range(21)]
                        counts = {"launches_expected": launches, "launches_observed": launches}
                        how = {"rung": rung, "native": native, "timing": timing}
                        rows.append(
                            timed(latency, samples_ms=tuple(samples), **case, **counts, **how)
                        )
    run = record(run_id="sweep-20260101T000000Z-0f0f0f", title="Fixture: a sweep", **changes)
    return Run(Path("sweep"), run, tuple(rows))


def module_run() -> Run:
    """A run of modules in eager and graph time; eager rows have host times."""
    case: dict[str, Any] = {
        "batch": 1,
        "channels": 640,
        "height": 64,
        "width": 64,
        "dtype": "bfloat16",
        "part": "module",
        "proxy": 80,
    }
    rows = []
    for rung, graph_ms, host_ms in (
        ("attention_efficient", 0.412, 0.0951),
        ("attention_torch", 0.239, 0.0783),
        ("gspn2", 0.0591, 0.821),
    ):
        eager = {"timing": "eager", "host_ms": host_ms, "host_samples_ms": (host_ms,) * 3}
        rows += [
            timed(graph_ms + host_ms, rung=rung, launches_observed=27, **case, **eager),
            timed(graph_ms, rung=rung, launches_observed=27, **case),
        ]
    run = record(run_id="module-20260101T000000Z-0c0c0c", title="Fixture: modules")
    return Run(Path("module"), run, tuple(rows))


def slower(run: Run, rung: str, times: float) -> Run:
    """A copy of the run in which one rung takes ``times`` as long."""
    rows = tuple(
        each.model_copy(
            update={
                "latency_ms": each.latency_ms * times,
                "samples_ms": tuple(sample * times for sample in each.samples_ms),
            }
        )
        if each.rung == rung and each.latency_ms
        else each
        for each in run.rows
    )
    return Run(Path("again"), run.record.model_copy(update={"run_id": "again"}), rows)


def large_run(rows: int = 2000, samples: int = 50) -> Run:
    """A run of many rows with distinct latencies."""
    shapes = [(n, c, size) for n in (1, 2, 4, 8, 16) for c in (1, 3, 8, 32) for size in (65, 257)]
    result = []
    for index in range(rows):
        batch, channels, size = shapes[index // 5 % len(shapes)]
        latency = 0.1 + 0.0012345 * index
        result.append(
            timed(
                latency,
                batch=batch,
                channels=channels,
                height=size,
                width=size,
                rung=f"r{index % 5 + 1:02}",
                timing=("graph", "device", "eager")[index // 5 // len(shapes) % 3],
                compile_s=0.1 + 0.00321 * index,
                clock_mhz=1500.0 + index % 400,
                gate_error=1e-7 * (1 + index / 1000),
                samples_ms=tuple(latency * (1 + 1e-4 * each) for each in range(samples)),
                seed=index,
            )
        )
    return Run(Path("large"), record(run_id="large", title="Fixture: many rows"), tuple(result))


def profile_of(run: Run) -> Profile:
    """A synthetic profile of the first case of a run: many launches of r01, one of r07."""
    case = run.rows[0].case
    seen: dict[str, Any] = {"case": case, "phase": "forward", "timing": "graph", "calls": 3}
    many = [
        Launch(name="r01_line_launch_forward", start_us=1.5 * index, duration_us=1.0)
        for index in range(64)
    ]
    one = [Launch(name="r07_gspn2_forward", start_us=0.0, duration_us=24.0)]
    trials = [
        ProfiledTrial(
            rung=rung,
            launches=len(timeline),
            launches_expected=len(timeline),
            gpu_ms=len(timeline) * timeline[0].duration_us / 1e3,
            span_ms=0.0955 if rung == "r01" else 0.024,
            gap_ms=0.0315 if rung == "r01" else 0.0,
            timeline=tuple(timeline),
            **seen,
        )
        for rung, timeline in (("r01", many), ("r07", one))
    ]
    return Profile(
        schema_version=SCHEMA_VERSION,
        tool="nsys",
        tool_version="2025.3",
        gpu="Fixture GPU",
        file="fixture.sqlite",
        sha256="0" * 64,
        added_utc="2026-01-01T00:02:00Z",
        trials=tuple(trials),
    )


def simulated_run() -> Run:
    """A run of the simulator: gates, launches and traced bytes, but no latency."""
    case = {
        "batch": 1,
        "channels": 2,
        "height": 16,
        "width": 16,
        "copy_gbps": None,
        "floor_ms": None,
        "floor_bound": None,
        "simulated": True,
        "timing": "device",
        "gate_slices": 2,
    }
    ragged = {"channels": 1, "height": 13, "width": 63}
    rows = (
        row(native="right", **case | {"bytes_traced": 98304}),
        row(
            **case
            | {"rung": "r07", "launches_expected": 1, "launches_observed": 1}
            | {"bytes_traced": 12288}
        ),
        row(native="right", **case | ragged | {"bytes_traced": 157248, "gate_error": 3.1e-7}),
        row(
            **case
            | ragged
            | {
                "rung": "r07",
                "status": "skipped",
                "reason": "needs warp shuffles, which the simulator does not have",
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
        fma_us=None,
        launch_us=None,
        shuffle_step_us=None,
        step_us=None,
    )
    return Run(Path("simulated"), run, rows)


def hostile_run(name: str = HOSTILE) -> Run:
    """The real run with every free text replaced by a hostile one."""
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
    """Write a run to a results folder, as a sweep does, and return its folder."""
    path = results / run.record.run_id
    path.mkdir(parents=True)
    with RunWriter(path, run.record) as writer:
        for line in run.rows:
            writer.add(line)
    return path
