import itertools
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from gspn2bench.analysis.frame import base_order, frame, published, rung_order
from gspn2bench.records.schema import Published, Row, RunRecord, SweepPlan, TrafficPlan
from gspn2bench.records.store import Run

from ..helpers.report_fixtures import (
    cases_of_every_kind,
    real_run,
    record,
    row,
    simulated_run,
    timed,
)

NATIVE = ("down", "right")


def table(*rows: Row, run: RunRecord | None = None) -> pd.DataFrame:
    return frame([Run(Path("fixture"), run or record(), rows)])


def test_speedup_is_base_over_latency():
    result = table(timed(31.6, native="right"), timed(0.79, rung="r07"))
    assert list(result["base_rung"]) == ["r01", "r01"]
    assert list(result["speedup"]) == pytest.approx([1.0, 40.0])


def test_base_is_the_lowest_rung_that_is_ok():
    result = table(row(status="oom"), timed(2.0, rung="r10"), timed(4.0, rung="r09"))
    assert list(result["base_rung"].iloc[1:]) == ["r09", "r09"]
    assert result["speedup"].iloc[1] == pytest.approx(2.0)


def test_a_host_time_is_withheld_with_the_latency():
    eager = {"timing": "eager", "host_ms": 0.5, "host_samples_ms": (0.5,)}
    result = table(timed(1.0, **eager), timed(1.0, status="unstable", **eager), timed(1.0))
    assert result["host_ms"].fillna(0).to_list() == [0.5, 0, 0]
    assert "host_samples_ms" not in result


ATTENTION = ("attention_efficient", "attention_flash", "gspn2")


def plan(*rungs: str, ids: tuple[str, ...] = ()) -> SweepPlan:
    return SweepPlan(
        cases=(), rungs=rungs, ids=ids, timings=("graph",), samples=1, seconds=1.0, limit_s=1.0
    )


def test_the_base_is_the_one_that_the_run_names():
    rows = (timed(4.0, rung="attention_efficient"), timed(2.0, rung="attention_flash"))
    run = record(base="attention_flash", plan=plan(*ATTENTION))
    result = table(*rows, timed(1.0, rung="gspn2"), run=run)
    assert list(result["base_rung"]) == ["attention_flash"] * 3
    assert list(result["speedup"]) == pytest.approx([0.5, 1.0, 2.0])


def test_a_named_base_comes_before_the_ladder():
    rows = (timed(1.0, rung="r07"), timed(2.0, rung="r07_unfused"))
    result = table(*rows, run=record(base="r07_unfused", plan=plan("r07_unfused", "r07")))
    assert list(result["speedup"]) == pytest.approx([2.0, 1.0])
    result = table(*rows, run=record(plan=plan("r07_unfused", "r07")))
    assert list(result["base_rung"]) == ["r07", "r07"]


@pytest.mark.parametrize("rungs", list(itertools.permutations(["zebra", "ant", "mole"])))
def test_without_a_base_or_a_rung_of_the_ladder_the_first_listed_is_the_base(
    rungs: tuple[str, ...],
):
    rows = [timed(1.0, rung=rung) for rung in ("ant", "mole", "zebra")]
    for run in (
        record(plan=plan(*rungs)),
        record(plan=plan("a.py", "b.py", "c.py", ids=rungs)),
        record(traffic=TrafficPlan(cases=(), rungs=rungs, tool="trace")),
    ):
        assert set(table(*rows, run=run)["base_rung"]) == {rungs[0]}


def test_a_base_without_a_latency_is_replaced_by_the_next_in_order():
    lost = {"case": "large"}
    rows = (
        timed(2.0, rung="attention_flash"),
        timed(1.0, rung="gspn2"),
        row(rung="attention_flash", status="skipped", reason="too large", **lost),
        timed(8.0, rung="gspn2", **lost),
        timed(9.0, rung="attention_efficient", **lost),
    )
    run = record(base="attention_flash", plan=plan(*ATTENTION))
    result = table(*rows, run=run)
    assert list(result["base_rung"][:2]) == ["attention_flash"] * 2
    assert list(result["base_rung"][3:]) == ["attention_efficient"] * 2
    assert result["base_rung"].isna()[2]


@pytest.mark.parametrize("base", [None, "torch_loop", "mine", "never_run"])
def test_the_base_does_not_depend_on_the_order_of_the_rows(base: str | None):
    expected = {"torch_loop": 5.0, "r07": 1.0, "mine": 2.0}
    rows = [timed(ms, rung=rung) for rung, ms in expected.items()]
    rows.append(timed(6.0, rung="torch_loop", native="up"))
    run = record(base=base, plan=plan("torch_loop", "r07", "mine.py"))
    bases = {
        (rung, ms)
        for order in itertools.permutations(rows)
        for rung, ms in table(*order, run=run)[["base_rung", "base_latency_ms"]].to_numpy()
    }
    name = base if base in expected else "r07"
    assert bases == {(name, expected[name])}


def test_the_order_of_bases():
    listed = plan("torch_loop", "r10", "mine.py", "jax_scan", "r09")
    rungs = {"jax_scan", "mine", "r09", "r10", "torch_loop", "alien"}
    ladder, others = ["r09", "r10"], ["torch_loop", "jax_scan", "alien", "mine"]
    assert base_order(record(plan=listed), rungs) == [*ladder, *others]
    named = base_order(record(plan=listed, base="jax_scan"), rungs)
    assert named == ["jax_scan", *ladder, "torch_loop", "alien", "mine"]


def test_base_with_several_rows_is_its_fastest():
    result = table(timed(5.0, native="left"), timed(4.0), timed(2.0, rung="r07"))
    assert result["speedup"].iloc[2] == pytest.approx(2.0)


@pytest.mark.parametrize("status", ["incorrect", "skipped", "oom", "failed", "unstable", "invalid"])
def test_row_that_is_not_ok_has_no_speedup_nor_latency(status):
    result = table(timed(31.6), timed(0.5, rung="r07", status=status, reason="fixture"))
    assert result.loc[1, ["latency_ms", "latency_ms_low", "speedup", "gbps"]].isna().all()
    assert result["base_rung"].isna()[1]


@pytest.mark.parametrize(
    "other",
    [
        {"timing": "device"},
        {"l2": "warm"},
        {"channels": 4},
        {"logits": 1},
        {"direction": "right"},
        {"phase": "backward"},
        {"dtype": "float16"},
        {"weights": "shared"},
        {"directions": 4},
        {"chunk": 64},
    ],
)
def test_rows_that_differ_never_pair(other):
    result = table(timed(31.6), timed(0.79, rung="r07", **other))
    assert list(result["base_rung"]) == ["r01", "r07"]
    assert list(result["speedup"]) == [1.0, 1.0]


def test_whole_scans_of_either_axis_pair():
    size = {"height": 16, "width": 33}
    result = table(timed(4.0, **size, native="right"), timed(1.0, **size, rung="r07"))
    assert result["speedup"][1] == pytest.approx(4.0)
    assert set(result["title"]) == {"N16 C8 16x33 float32"}
    assert set(result["chunking"]) == {"whole scan"}
    chunked = {**size, "chunk": 16}
    result = table(timed(4.0, **chunked, native="right"), timed(1.0, **chunked, rung="r07"))
    assert result["speedup"][1] == 1.0
    assert list(result["chunking"]) == ["chunk 16", "whole scan"]


def test_runs_never_pair():
    first = Run(Path("a"), record(run_id="a"), (timed(31.6),))
    second = Run(Path("b"), record(run_id="b"), (timed(0.79, rung="r07"),))
    assert list(frame([first, second])["speedup"]) == [1.0, 1.0]


def test_simulated_row_never_shows_a_latency():
    result = table(timed(31.6, simulated=True), timed(0.79, rung="r07"))
    assert math.isnan(result["latency_ms"][0])
    assert result["withheld"][0] == "simulated"
    assert result["base_rung"][1] == "r07"


@pytest.mark.parametrize(
    "gate", [{"gate_error": None}, {"gate_tolerance": None}, {"gate_error": 1.0}]
)
def test_no_number_without_a_green_gate(gate):
    result = table(timed(31.6, **gate))
    assert result.loc[0, ["latency_ms", "speedup", "gbps", "launches_observed"]].isna().all()
    assert result["withheld"][0] == "the gate is not green"


def test_nan_tolerance_is_refused():
    with pytest.raises(ValidationError, match="gate_tolerance"):
        timed(31.6, gate_tolerance=math.nan)


def test_no_latency_without_a_machine():
    result = table(timed(31.6), run=record(environment={"gpu": None}))
    assert math.isnan(result["latency_ms"][0])
    assert result["withheld"][0] == "the run does not name its GPU"


def test_nan_latency_is_refused():
    with pytest.raises(ValidationError, match="latency_ms"):
        timed(math.nan)


def test_rates_and_shares():
    result = table(timed(0.8, bytes_model=3_200_000_000, floor_ms=0.6, bytes_dram=4_800_000_000))
    assert result["gbps"][0] == pytest.approx(4000.0)
    assert result["copy_share"][0] == pytest.approx(4000 / 4180)
    assert result["floor_share"][0] == pytest.approx(0.75)
    assert result["dram_ratio"][0] == pytest.approx(1.5)


def test_the_copy_bandwidth_of_the_run_is_the_default():
    result = table(timed(0.8, copy_gbps=None), run=record(copy_gbps=2000.0))
    assert result["copy_gbps"][0] == 2000.0


def attention(side: int, **changes: Any) -> Row:
    fields = {"rung": "attention_flash", "part": "module", "launches_expected": None}
    return row(**fields | {"height": side, "width": side, "case": f"{side}"} | changes)


@pytest.mark.parametrize("largest_first", [False, True])
def test_attention_is_extrapolated_from_the_largest_map_by_the_square_of_its_positions(
    largest_first,
):
    rows = [attention(16, latency_ms=1.0), attention(32, latency_ms=3.0)]
    missing = attention(64, status="oom", reason="memory")
    smaller = attention(8, status="timeout", reason="slow")
    failed = attention(64, status="failed", reason="boom")
    other = attention(64, status="oom", reason="memory", dtype="bfloat16")
    scan = attention(64, status="oom", reason="memory", rung="gspn2")
    measured = rows[::-1] if largest_first else rows
    result = table(*measured, missing, smaller, failed, other, scan)["extrapolated_ms"]
    # four times the positions of 32 x 32
    assert result.fillna(0).to_list() == [0, 0, 3.0 * 16, 0, 0, 0, 0]


def test_launches_agree_or_unknown():
    result = table(timed(1.0), timed(1.0, launches_observed=1), timed(1.0, launches_observed=None))
    assert result["launches_agree"][0] is True or result["launches_agree"][0] == True  # noqa: E712
    assert not result["launches_agree"][1]
    assert result["launches_agree"][2] is pd.NA


def test_intervals_that_overlap():
    result = table(timed(1.0, 0.1), timed(0.95, 0.1, rung="r02"), timed(0.5, 0.1, rung="r03"))
    assert list(result["overlaps"]) == [True, True, False]


def test_a_title_is_the_label_of_the_case_without_repetition():
    cases = cases_of_every_kind()
    result = table(
        *(timed(1.0, **asdict(case), native=direction) for case in cases for direction in NATIVE)
    )
    for title, case in zip(result["title"], [case for case in cases for _ in NATIVE], strict=True):
        parts = title.split(", ")
        assert len(parts) == len(set(parts))
        # a label has two titles if its chunk is the whole scan in one direction only
        assert title.removesuffix(", whole scan") == case.label
    assert (result.groupby("title")["chunking"].nunique() == 1).all()
    assert (result.groupby(["case", "chunking"])["title"].nunique() == 1).all()


def test_chunking_follows_the_case():
    for case in cases_of_every_kind():
        if case.chunk in (None, 8):
            result = table(*(timed(1.0, **asdict(case), native=direction) for direction in NATIVE))
            assert set(result["chunking"]) == {"chunk 8" if case.chunk else "whole scan"}


def test_published_applies_if_every_field_is_equal():
    figure = {"rung": "r07", "latency_ms": 1.8, "machine": "A", "source": "B"}
    figures = [
        Published(**figure, where={"batch": 16, "phase": "forward"}),
        Published(**figure | {"latency_ms": 9.0}, where={"batch": 16, "phase": "backward"}),
        Published(**figure | {"latency_ms": 8.0}, where={"nothing": 1}),
        Published(**figure | {"latency_ms": 7.0, "rung": "r06"}, where={}),
    ]
    rows = (timed(31.6), timed(0.79, rung="r07"), timed(0.78, rung="r07", timing="device"))
    result = published([Run(Path("fixture"), record(published=figures), rows)])
    assert list(result["published_ms"]) == [1.8]


def test_published_rate_is_no_latency():
    figure = Published(rung="r01", gbps=94.0, machine="A", source="B")
    result = published([Run(Path("fixture"), record(published=[figure]), (timed(31.6),))])
    assert math.isnan(result["published_ms"][0])
    assert result["published_gbps"][0] == 94.0


def test_rungs_in_the_order_of_the_ladder():
    ladder = ["r06", "r06a", "r06b", "r07", "r10"]
    assert sorted(["mine", *ladder[::-1], "a"], key=rung_order) == [*ladder, "a", "mine"]


def test_empty_run():
    result = table()
    assert result.empty
    assert {"speedup", "gbps", "title"} <= set(result)


def test_machine():
    assert real_run().record.machine == "Fixture GPU"
    assert simulated_run().record.machine == "Numba CUDA simulator"
    assert record(environment={"gpu": {"name": " "}}).machine is None


def network(rung: str, latency_ms: float | None, side: int = 128, **changes: object) -> Row:
    case = {"batch": 1, "channels": 4, "height": side, "width": side, "dtype": "bfloat16"}
    fields = {**case, "part": "unet", "rung": rung, **changes}
    if latency_ms is None:
        return row(status="skipped", reason="too long", **fields)
    return timed(latency_ms, **fields)


def test_the_share_of_the_possible_gain():
    """Compiled rows are compared with compiled rows, other cases and modes with neither."""
    result = table(
        network("attention_sdpa", 100.0),
        network("gspn2", 60.0),
        network("identity", 50.0),
        network("attention_sdpa_compiled", 80.0),
        network("gspn2_compiled", 90.0),
        network("identity_compiled", 40.0),
        network("gspn2", 55.0, timing="eager"),
        network("gspn2", 55.0, 64),
        timed(1.0),
    )
    assert result["gain_share"].round(9).fillna(-9).to_list() == [
        *(-9, 0.8, -9),
        *(-9, -0.25, -9),
        *(-9, -9, -9),
    ]


def test_no_share_of_a_gain_that_is_not_possible():
    result = table(
        network("attention_sdpa", 50.0), network("gspn2", 49.0), network("identity", 50.0)
    )
    assert result["gain_share"].isna().all()


def test_only_attention_of_a_network_is_extrapolated():
    """10 ms of attention at 64 grow to 160 at 128 and 2,560 at 256; the rest is measured there."""
    result = table(
        network("attention_sdpa", 30.0, 64),
        network("identity", 20.0, 64),
        network("attention_sdpa", None, 128),
        network("identity", 80.0, 128),
        network("gspn2", 96.0, 128),
        network("attention_sdpa", None, 256),
    )
    assert result["extrapolated_ms"].iloc[2] == pytest.approx(240)
    assert result["gain_share"].iloc[4] == pytest.approx(144 / 160)
    assert result["extrapolated_ms"].drop(index=2).isna().all()
