import csv
import io
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from gspn2bench.analysis.frame import frame
from gspn2bench.commands.show import show
from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Row
from gspn2bench.records.store import Run
from gspn2bench.report.text.sparklines import sparkline, trends
from gspn2bench.report.text.terminal import render_terminal

from ..helpers.report_fixtures import (
    HOSTILE,
    NO_GATE,
    cases_of_every_kind,
    hostile_run,
    module_run,
    real_run,
    record,
    row,
    save,
    simulated_run,
    timed,
)


def printed(run, width=80):
    console = Console(width=width, highlight=False, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(render_terminal(run))
    return capture.get()


def plain(run, width=80):
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(render_terminal(run))
    return capture.get()


def test_fits_80_columns_with_nothing_cut():
    for run in (real_run(), simulated_run(), module_run()):
        lines = plain(run).splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" not in "".join(lines)


def test_the_verdict_is_above_the_tables():
    text = plain(real_run(), 200)
    assert text.index("r07 is 15.9x to 41.0x faster than r01") < text.index("speed-up")


def test_rows_and_reasons():
    lines = plain(real_run(), 120).splitlines()
    r07 = next(line for line in lines if line.startswith("r07   fwd    device"))
    assert r07.split()[:4] == ["r07", "fwd", "device", "0.770"]
    assert "41.0x" in r07
    assert "- N16 C8 1024x1024 float32, r06 forward, incorrect: h[3, 0, 1, 2] is nan" in lines
    assert sum("needs 512 columns" in line for line in lines) == 1


def test_host_time_is_a_column_where_a_run_has_it():
    table = plain(module_run(), 120).rpartition("module, C_proxy 80")[2]
    header, _rule, *lines = table.splitlines()[1:]
    start = header.index("host ms")
    cells = {
        tuple(line.split()[:3]): line[start : start + len("host ms")].strip() for line in lines
    }
    assert cells["gspn2", "fwd", "eager"] == "0.821"
    assert cells["attention_torch", "fwd", "eager"] == "0.0783"
    assert cells["gspn2", "fwd", "graph"] == ""
    assert "host" not in plain(real_run(), 120)


def test_simulated_run_shows_no_latency_column():
    text = plain(simulated_run())
    assert "latencies are empty (no CUDA driver was found)." in " ".join(text.split())
    assert " ms" not in text
    assert "simulated" in text
    assert "98.3 kB" in text


def test_markup_and_control_characters_in_names_are_inert():
    name = "[red]x[/red]\x1b]0;title\x07"
    text = printed(hostile_run(name), 300)
    assert "[red]x[/red]" in text
    assert "\x1b]0" not in text
    assert "\x07" not in text
    assert HOSTILE in plain(hostile_run(), 300)


@pytest.fixture
def app():
    result = typer.Typer()
    result.command()(show)
    return result


def test_command(app, tmp_path):
    save(simulated_run(), tmp_path)
    done = CliRunner().invoke(app, ["quick", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert "Correctness: 3 of 3 gates green" in done.stdout
    assert "\x1b" not in done.stdout
    done = CliRunner().invoke(app, ["nothing", "--results", str(tmp_path)])
    assert isinstance(done.exception, UsageError)


def size(extent, **changes):
    """Fields of a case of this size; its bytes grow with it."""
    many = {"height": extent, "width": extent}
    return {"bytes_model": 4_000_000 * extent, **many, **changes}


def swept_run(*more: Row):
    """r01 at 100 GB/s; r07 at 1,000, 2,000 and 4,000 GB/s; one size that r07 skips."""
    rows = []
    for timing in ("eager", "graph", "device"):
        for extent, rate in ((512, 2000), (256, 1000), (1024, 4000), (2048, None)):
            case = size(extent, timing=timing)
            rows.append(timed(case["bytes_model"] / 100e6, **case, native="right"))
            if rate is None:
                rows.append(row(rung="r07", status="skipped", reason="why", **case, **NO_GATE))
            else:
                rows.append(timed(case["bytes_model"] / (rate * 1e6), rung="r07", **case))
    return Run(Path("swept"), record(copy_gbps=4000.0), (*rows, *more))


def test_sparkline():
    assert sparkline([0.0, 1, 12.5, 12.6, 50, 87.5, 87.6, 100], 100) == "▁▁▁▂▄▇██"
    assert sparkline([math.nan, 100, math.nan], 100) == "·█·"


def test_a_swept_axis_has_a_line_per_rung():
    text = plain(swept_run())
    lines = text.splitlines()
    start = lines.index("over size  256 512 1,024 2,048")
    assert lines[start + 1] == "N16 C8 float32, graph time, cold L2; a full block is 4,180 GB/s"
    r01 = ["r01", "fwd", "▁▁▁▁", "100", "→", "100", "10.2", "→", "81.9", "base"]
    r07 = ["r07", "fwd", "▂▄█·", "1,000", "→", "4,000", "1.02", "→", "1.02", "10.0x", "→", "40.0x"]
    assert [line.split() for line in lines[start + 4 : start + 6]] == [r01, r07]
    assert lines[start + 6] == ""
    assert text.count("over size") == 1
    assert max(map(len, lines)) <= 80
    assert "…" not in text


def test_each_axis_has_its_own_trend_and_cases_are_separated():
    def trends_of(*rows):
        table = frame([Run(Path("f"), record(), rows)])
        return [(trend.axis, trend.values, len(trend.lines)) for trend in trends(table)]

    batches = [timed(1.0, batch=n) for n in (1, 2, 4)]
    assert trends_of(*batches) == [("batch", (1, 2, 4), 1)]
    assert trends_of(*batches[:2]) == []
    assert trends_of(*batches[:2], timed(1.0, batch=4, dtype="float16")) == []
    assert trends_of(*batches[:2], timed(1.0, batch=4, l2="warm")) == []
    chunks = [timed(1.0, chunk=n) for n in (16, 64, 1024)]
    assert trends_of(*chunks) == [("chunk", (16, 64, 1024), 1)]
    widths = [timed(1.0, width=n, height=63) for n in (63, 500, 1025)]
    assert [axis for axis, *_ in trends_of(*widths)] == ["width"]
    eager = [timed(1.0, batch=n, timing="eager") for n in (1, 2, 4)]
    assert trends_of(*eager) == []
    ways = [timed(1.0, batch=n, direction=way) for n in (1, 2, 4) for way in ("up", "down")]
    assert trends_of(*ways) == [("batch", (1, 2, 4), 2)]
    assert trends_of(*(r.model_copy(update={"simulated": True}) for r in batches)) == []


def test_a_trend_names_everything_that_its_cases_share():
    kinds = [case for case in cases_of_every_kind() if case.chunk in (None, 8)]
    rows = [timed(1.0, **asdict(replace(case, batch=n))) for case in kinds for n in (1, 2, 4)]
    texts = [
        trend.where
        for trend in trends(frame([Run(Path("f"), record(), tuple(rows))]))
        if trend.axis == "batch"
    ]
    # a fixed direction is in the name of the line instead
    labels = dict.fromkeys(
        replace(case, direction="native").label.removeprefix("N4 ") for case in kinds
    )
    assert texts == [f"{label}, graph time, cold L2" for label in labels]


def test_a_long_sweep_and_a_long_name_are_folded_and_not_cut():
    rows = [
        timed(1.0, batch=n, bytes_model=3_221_225_472, rung="my_own_kernel_v2")
        for n in range(1, 61)
    ]
    text = plain(Run(Path("f"), record(), tuple(rows)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("▇") == 60


def test_eager_time_has_no_speed_up():
    eager = [line for line in plain(real_run()).splitlines() if " eager " in line]
    assert eager
    assert not any(re.search(r"\dx|slower|base", line) for line in eager)


def test_a_ratio_below_1_reads_as_a_slow_down():
    rows = [
        timed(ms, rung=rung, **size(extent))
        for extent, slow in ((256, 2.3), (512, 1.0), (1024, 0.5))
        for ms, rung in ((1.0, "r01"), (slow, "r02"))
    ]
    text = plain(Run(Path("f"), record(), tuple(rows)), 120)
    assert "r02 is 2.30x slower to 2.00x faster than r01 over 3 cases" in " ".join(text.split())
    assert "2.30x slower → 2.00x" in text
    cells = [line for line in text.splitlines() if re.match(r"r02 +fwd +graph", line)]
    assert ["2.30x slower" in line for line in cells] == [True, False, False]
    assert "0.43" not in text
    assert max(map(len, plain(Run(Path("f"), record(), tuple(rows))).splitlines())) <= 80


def invoke(app, run, folder, *arguments):
    save(run, folder)
    done = CliRunner().invoke(app, ["latest", "--results", str(folder), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_has_the_content_of_the_terminal(app, tmp_path):
    data = json.loads(invoke(app, real_run(), tmp_path, "--json"))
    assert "r07 is 15.9x to 41.0x faster than r01" in data["verdict"]["headline"]
    assert dict(data["facts"])["machine"] == "Fixture GPU"
    assert len(data["rows"]) == len(real_run().rows)
    first, bad = data["rows"][0], data["rows"][3]
    assert first["bytes_model"] == 3_221_225_472
    assert isinstance(first["bytes_model"], int)
    assert first["latency_ms"] == pytest.approx(31.6 * 1.3)
    assert first["launches_agree"] is True
    assert first["overlaps"] is True
    assert bad["status"] == "incorrect"
    assert bad["latency_ms"] is bad["speedup"] is bad["gate_error"] is None
    assert first["host_ms"] is None
    assert not {"samples_ms", "host_samples_ms"} & first.keys()


def test_csv_has_the_rows_of_json(app, tmp_path):
    text = invoke(app, real_run(), tmp_path / "a", "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    other = json.loads(invoke(app, real_run(), tmp_path / "b", "--json"))["rows"]
    assert [list(r) for r in rows] == [list(r) for r in other]
    for name in ("case", "latency_ms", "bytes_dram", "reason", "speedup"):
        assert [r[name] for r in rows] == ["" if r[name] is None else str(r[name]) for r in other]


def test_no_name_controls_the_terminal(app, tmp_path):
    run = hostile_run('\x1b]0;title\x07\nx,"y')
    run = Run(run.path, run.record.model_copy(update={"run_id": "hostile"}), run.rows)
    for number, way in enumerate(("--csv", "--json", "--quiet")):
        text = invoke(app, run, tmp_path / str(number), way)
        assert not {"\x1b", "\x07"} & set(text)
    rows = csv.DictReader(io.StringIO(invoke(app, run, tmp_path / "again", "--csv")))
    assert len(list(rows)) == len(run.rows)


def test_quiet_prints_only_the_headline(app, tmp_path):
    assert invoke(app, simulated_run(), tmp_path, "--quiet") == (
        "The run is simulated and its latencies are empty (no CUDA driver was found).\n"
    )
