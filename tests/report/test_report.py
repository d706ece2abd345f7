import errno
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gspn2bench.analysis.frame import frame
from gspn2bench.commands.report import default_path, report
from gspn2bench.errors import UsageError
from gspn2bench.records.store import Run, add_profile, read_run
from gspn2bench.report import render, write, write_pictures
from gspn2bench.report.formatting import number, script_json, size, speedup, speedups
from gspn2bench.report.html.controls import controls
from gspn2bench.report.html.data import MOST_SAMPLES
from gspn2bench.report.tables import ROW_COLUMNS, table_of
from gspn2bench.report.verdict import conclusion

from ..helpers.report_fixtures import (
    HOSTILE,
    hostile_run,
    large_run,
    module_run,
    profile_of,
    real_run,
    record,
    row,
    save,
    simulated_run,
    slower,
    sweep_run,
    timed,
)

BREAKS = "\u2028\u2029"


class Page(HTMLParser):
    """The page as a browser parses it: tags, the embedded data, the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict = {}
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script" and dict(attrs).get("type") == "application/json":
            self._inside = "json"

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "json":
            self.data = json.loads(data)
        elif self._inside not in ("script", "style"):
            self.text += data

    @property
    def rows(self) -> list[dict]:
        """The rows of the embedded data, unpacked."""
        columns = self.data["columns"]
        return [
            {key: self._value(column, place) for key, column in columns.items()}
            for place in range(self.data["count"])
        ]

    @staticmethod
    def _value(column, place):
        if "all" in column:
            return column["all"]
        return (
            column["names"][column["at"][place]] if "names" in column else column["values"][place]
        )

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def real():
    return render([real_run()])


@pytest.fixture(scope="module")
def simulated():
    return render([simulated_run()])


@pytest.fixture(scope="module")
def hostile():
    return render([hostile_run(HOSTILE + "&amp;<b>" + BREAKS)])


def test_the_page_is_one_file_without_external_resources(real):
    page = Page(real)
    assert len(real.encode()) < 6_000_000
    assert all("src" not in attrs for attrs in page.all("script"))
    assert [attrs["href"] for attrs in page.all("link")] == ["data:,"]
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_plotly_is_inlined_once(real):
    from plotly.offline import get_plotlyjs

    assert real.count(get_plotlyjs()[:2000].replace("\r\n", "\n")) == 1
    assert len([a for a in Page(real).all("script") if "type" not in a]) == 2


def test_page_has_language_title_headings_landmarks(real):
    page = Page(real)
    assert page.all("html")[0]["lang"] == "en"
    assert "Fixture: made-up numbers of the ladder" in page.text
    assert len(page.all("h1")) == 1
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    charts = [a for a in page.all("div") if a.get("class") == "chart"]
    tables = [a for a in page.all("details") if a.get("class") == "data"]
    assert len(charts) == len(tables) == len(page.all("figure")) == len(page.data["figures"]) > 4
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_control_has_a_label(real):
    page = Page(real)
    named = {a["for"] for a in page.all("label") if "for" in a}
    fields = [a for tag in ("select", "input") for a in page.all(tag)]
    alone = [a for a in fields if a.get("type") != "checkbox"]
    assert {a["id"] for a in alone} == named
    assert {a["name"] for a in page.all("select") if "name" in a} == {
        *("run", "phase", "timing", "dtype", "weights", "direction")
    }


def test_figures_make_no_requests(real):
    config = Page(real).data["config"]
    assert config["showSendToCloud"] is False
    assert config["displaylogo"] is False


def test_rows_are_embedded_without_withheld_numbers(real):
    run = real_run()
    rows = Page(real).rows
    assert len(rows) == len(run.rows)
    for shown, recorded in zip(rows, run.rows, strict=True):
        assert shown["latency_ms"] == pytest.approx(recorded.latency_ms)
        assert [shown[key] for key in ("rung", "timing", "status")] == [
            *(recorded.rung, recorded.timing, recorded.status)
        ]
    incorrect = next(each for each in rows if each["status"] == "incorrect")
    assert incorrect["launches_observed"] is None
    assert incorrect["gate_green"] is False


def test_every_column_of_the_table_has_its_own_quantity():
    one = timed(
        1.25,
        latency_ms_low=1.0,
        latency_ms_high=1.5,
        host_ms=0.5,
        timing="eager",
        launches_expected=3,
        launches_observed=4,
        bytes_model=2_500_000_000,
        bytes_traced=3_000_000_000,
        bytes_dram=3_500_000_000,
        sectors_load=11,
        sectors_store=12,
        copy_gbps=4000.0,
        floor_ms=0.75,
        floor_bound="bytes",
        gate_error=1e-6,
        gate_tolerance=2e-5,
        gate_slices=16,
        seed=7,
        compile_s=2.5,
        peak_memory_bytes=1000,
        clock_mhz=1980.0,
        temperature_c=40.0,
        throttle="power cap",
    )
    table = table_of("", ROW_COLUMNS, frame([Run(Path("f"), record(), (one,))]))
    (cells,) = table.rows
    shown = dict(zip(table.headers, cells, strict=True))
    assert shown == {
        "run": "fixture-20260101T000000Z-abc123",
        "case": "N16 C8 1024x1024 float32",
        "rung": "r01",
        "phase": "forward",
        "timing": "eager",
        "status": "ok",
        "latency, ms": "1.25",
        "95 % low, ms": "1.00",
        "95 % high, ms": "1.50",
        "host time, ms": "0.500",
        "speed-up": "1.00x",
        "base": "r01",
        "model bytes / latency, GB/s": "2,000",
        "share of copy bandwidth, %": "50.0 %",
        "floor, ms": "0.750",
        "floor / latency, %": "60.0 %",
        "bound of the floor": "bytes",
        "launches expected": "3",
        "launches observed": "4",
        "model, bytes": "2,500,000,000",
        "traced, bytes": "3,000,000,000",
        "DRAM, bytes": "3,500,000,000",
        "32-byte sectors loaded": "11",
        "32-byte sectors stored": "12",
        "gate error, relative": "1.0e-06",
        "gate tolerance, relative": "2.0e-05",
        "slices compared": "16",
        "compile, s": "2.50",
        "peak memory, bytes": "1,000",
        "clock, MHz": "1,980",
        "temperature, °C": "40",
        "throttle": "power cap",
    }
    assert table.caption == (
        " The same in every row: L2 cold; direction down; directions 1; chunk, lines 1,024;"
        " weights channel; dtype float32; part kernel; seed 7."
    )


def test_host_times_are_embedded_and_have_a_column():
    page = Page(render([module_run()]))
    assert page.data["columns"]["host_ms"]["values"][::2] == [0.0951, 0.0783, 0.821]
    assert set(page.data["columns"]["host_ms"]["values"][1::2]) == {None}
    for columns in (page.data["rowColumns"], page.data["figures"]["ladder"]["columns"]):
        (column,) = (column for column in columns if column["key"] == "host_ms")
        assert column["header"] == "host time, ms"
        assert column["optional"]


def test_published_figures_belong_to_their_rows(real):
    page = Page(real)
    figures = page.data["published"]
    assert {figure["published_ms"] for figure in figures} == {71.4, 57.4, 2.4, 1.8}
    for shown in page.rows:
        applied = [figures[index]["published_ms"] for index in shown["beside"]]
        expected = {"r01": [71.4], "r02": [57.4], "r03": [2.4], "r07": [1.8]}
        applies = shown["phase"] == "forward" and shown["height"] == 1024
        assert applied == (expected.get(shown["rung"], []) if applies else [])


def test_a_latency_without_a_green_gate_is_not_embedded():
    bad = timed(31.625, gate_error=1.0, samples_ms=(31.625, 31.625))
    html = render([Run(Path("f"), record(), (bad,))])
    assert Page(html).rows[0]["latency_ms"] is None
    assert Page(html).rows[0]["reason"] == "the gate is not green"
    assert "31.625" not in html


def test_failed_rows_are_listed_with_their_reasons(real):
    text = Page(real).text
    for words in ("h[3, 0, 1, 2] is nan", "needs 512 columns", "needs 150.3 GB"):
        assert words in text


def test_command_environment_and_copy_bandwidth(real):
    text = Page(real).text
    assert "gspn2bench sweep fixture --rung r01,r07 -a 'size=[256, 512]'" in text
    assert "packages.numba" in text
    assert "4,180 GB/s (4,160 to 4,190 over 3 samples)" in text


def test_simulated_report_has_no_latency_and_says_why(simulated):
    page = Page(simulated)
    assert "latencies are empty (no CUDA driver was found)." in page.text
    assert "Correctness: 3 of 3 gates green" in page.text
    assert "Launches: 3 of 3 counts as expected" in page.text
    assert {each["status"] for each in page.rows} == {"ok, simulated", "skipped, simulated"}
    assert {each["latency_ms"] for each in page.rows} == {None}
    assert list(page.data["figures"]) == ["ladder", "launches", "bytes"]
    assert "of the measured copy bandwidth" not in page.text


def test_hostile_names_are_inert_in_the_page(hostile):
    page = Page(hostile)
    assert not page.all("img")
    assert not page.all("b")
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert HOSTILE in page.text
    assert len(page.all("script")) == 3


def test_hostile_names_are_inert_in_the_json(hostile):
    scripts = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', hostile, re.DOTALL
    )
    assert HOSTILE in json.loads(scripts[0])["rungs"][0]
    for text in scripts:
        assert not set("<>&" + BREAKS) & set(text)


def test_nan_is_refused_in_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json({"x": [math.nan]})


def test_numbers_read_without_exponents():
    assert [number(v) for v in (0.77, 31.6, 4185.3, 77.0, 0.0001234)] == [
        *("0.770", "31.6", "4,185", "77.0", "0.000123")
    ]
    assert number(math.nan) == ""
    assert [size(v) for v in (0, 999, 12288, 3_221_225_472)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "3.22 GB",
    ]


def test_verdict_of_one_case():
    run = Run(Path("f"), record(), (timed(31.6), timed(0.79, rung="r07")))
    assert conclusion(run).headline == (
        "r07 is 40.0x faster than r01 on N16 C8 1024x1024 float32, forward:"
        " 0.790 ms against 31.6 ms (graph time, cold L2, Fixture GPU)."
    )


def test_verdict_of_several_cases_and_phases():
    result = conclusion(real_run())
    assert result.headline.startswith("r07 is 15.9x to 41.0x faster than r01 over 2 cases, forward")
    assert "Correctness: 7 of 8 gates green" in " ".join(result.details)
    assert "Not ok: 7 of 26 rows (3 incorrect, 3 skipped, 1 oom)." in result.details


def test_verdict_of_a_slow_down():
    run = Run(Path("f"), record(), (timed(1.0), timed(2.3, rung="r02")))
    assert conclusion(run).headline == (
        "r02 is 2.30x slower than r01 on N16 C8 1024x1024 float32, forward:"
        " 2.30 ms against 1.00 ms (graph time, cold L2, Fixture GPU)."
    )


def test_verdict_of_cases_that_are_slower_and_faster():
    rows = []
    for side, flash, gspn2 in ((16, 1.0, 2.3), (32, 3.0, 3.0), (64, 7.0, 5.0)):
        case = {"case": f"N1 C1 {side}x{side} float32", "height": side, "width": side}
        rows += [
            timed(9.0, rung="attention_efficient", **case),
            timed(flash, rung="attention_flash", **case),
            timed(gspn2, rung="gspn2", **case),
        ]
    run = Run(Path("f"), record(base="attention_flash"), tuple(rows))
    assert conclusion(run).headline == (
        "gspn2 is 2.30x slower to 1.40x faster than attention_flash over 3 cases, forward"
        " (graph time, cold L2, Fixture GPU); best on N1 C1 64x64 float32: 5.00 ms against 7.00 ms."
    )


def several(**speedups: dict[str, float]) -> Run:
    """A run with one case per keyword, where r01 takes 10 ms and the others are faster."""
    rows = []
    for case, of_rung in speedups.items():
        rows.append(timed(10.0, case=case))
        rows += [timed(10.0 / times, rung=rung, case=case) for rung, times in of_rung.items()]
    return Run(Path("f"), record(), tuple(rows))


def test_verdict_of_a_rung_that_ran_only_an_easy_case_is_not_the_headline():
    run = several(hard={"r06": 3.0, "r07": 5.0}, easy={"r06": 100.0})
    assert conclusion(run).headline.startswith("r07 is 5.00x faster than r01 on hard, forward")
    run = several(
        easy={"r06": 100.0}, hard={"r06": 3.0, "r07": 5.0}, other={"r06": 2.0, "r07": 4.0}
    )
    assert conclusion(run).headline.startswith("r07 is 4.00x to 5.00x faster than r01 over 2 cases")


def test_verdict_takes_the_geometric_mean():
    """The arithmetic mean of r06 is 5.5, and its geometric mean 3.3."""
    run = several(one={"r06": 1.1, "r07": 4.0}, two={"r06": 9.9, "r07": 4.5})
    assert conclusion(run).headline.startswith("r07 is 4.00x to 4.50x faster than r01 over 2 cases")


def test_verdict_compares_with_the_named_base_alone():
    """A case in which it has no latency has a different base, and is not in the headline."""
    case = {"case": "large"}
    rows = (
        *(timed(2.0, rung="attention_flash"), timed(1.0, rung="gspn2")),
        *(timed(9.0, rung="attention_efficient", **case), timed(1.0, rung="gspn2", **case)),
    )
    run = Run(Path("f"), record(base="attention_flash"), rows)
    assert conclusion(run).headline.startswith("gspn2 is 2.00x faster than attention_flash on N16")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (40.3, "40.3x"),
        (1107, "1,107x"),
        (1.0, "1.00x"),
        (0.9999, "1.00x"),
        (0.434, "2.30x slower"),
        (0.127, "7.87x slower"),
        (math.nan, ""),
    ],
)
def test_a_ratio_below_1_reads_as_a_slow_down(ratio, text):
    assert speedup(ratio) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (15.9, 41.0, "15.9x to 41.0x faster than r01"),
        (40.0, 40.0, "40.0x faster than r01"),
        (0.127, 0.434, "2.30x to 7.87x slower than r01"),
        (0.4, 2.1, "2.50x slower to 2.10x faster than r01"),
        (1.001, 1.4, "1.00x to 1.40x faster than r01"),
        (0.5, 0.999, "1.00x to 2.00x slower than r01"),
        (0.999, 1.001, "about as fast as r01"),
    ],
)
def test_a_range_of_ratios_reads_as_a_sentence(low, high, text):
    assert speedups(low, high, "r01") == text


def test_no_speedup_is_claimed_within_noise():
    run = Run(Path("f"), record(), (timed(1.0, 0.1), timed(0.95, 0.1, rung="r07")))
    assert "r07 and r01 cannot be told apart" in conclusion(run).headline


def test_verdict_never_quotes_eager_time():
    rows = (timed(31.6, timing="eager"), timed(0.79, rung="r07", timing="eager"))
    assert "No speed-up is quoted" in conclusion(Run(Path("f"), record(), rows)).headline


def test_verdict_without_rows_or_numbers():
    assert conclusion(Run(Path("f"), record(), ())).headline == "No row has a latency."
    bad = timed(1.0, gate_error=1.0)
    assert "the gate is not green" in conclusion(Run(Path("f"), record(), (bad,))).headline
    render([Run(Path("f"), record(), ())])


def test_two_thousand_rows_stay_under_6_mb():
    assert len(render([large_run()]).encode()) < 6_000_000


def test_samples_are_thinned_evenly_and_the_page_says_so():
    few = Page(render([sweep_run()]))
    assert few.data["thinned"] is None
    assert few.data["samples"][0] == pytest.approx(list(sweep_run().rows[0].samples_ms), rel=1e-4)
    many = Page(render([large_run()]))
    kept = many.data["thinned"]
    assert sum(map(len, many.data["samples"])) <= MOST_SAMPLES
    assert {len(samples) for samples in many.data["samples"]} == {kept}
    whole = large_run().rows[0].samples_ms
    assert many.data["samples"][0] == pytest.approx(
        [whole[place * len(whole) // kept] for place in range(kept)], rel=1e-4
    )


def test_only_fields_that_vary_have_a_scaling_figure():
    swept = Page(render([sweep_run()])).data["figures"]
    assert list(swept) == [
        *("ladder", "size", "channels", "batch", "slices", "heat"),
        *("roofline", "launches", "bytes", "samples"),
    ]
    # nothing varies alone: neither channels nor batch has an axis of its own
    other = {"batch": 1, "channels": 64, "height": 256}
    both = (timed(31.6), timed(1.3, **other))
    assert not {"size", "channels", "batch", "slices", "heat"} & set(
        Page(render([Run(Path("f"), record(), both)])).data["figures"]
    )
    one = (timed(31.6, samples_ms=(31.6,)), timed(0.79, rung="r07"))
    still = Page(render([Run(Path("f"), record(), one)])).data["figures"]
    assert list(still) == ["ladder", "roofline", "launches", "bytes", "samples"]


def test_the_first_values_are_the_new_run_and_graph_time():
    def chosen(*runs):
        return {
            each.id: each.chosen for each in controls(frame(runs), [r.record.run_id for r in runs])
        }

    assert chosen(real_run()) == {
        "run": "fixture-20260101T000000Z-abc123",
        "phase": "forward",
        "timing": "graph",
        "dtype": "float32",
        "weights": "channel",
        "direction": "any",
    }
    assert chosen(real_run(), sweep_run())["run"] == sweep_run().record.run_id
    slow = Run(
        Path("f"), record(), (timed(1.0, timing="eager", phase="backward", dtype="float16"),)
    )
    assert [chosen(slow)[key] for key in ("phase", "timing", "dtype")] == [
        *("backward", "eager", "float16")
    ]
    # graph time without a latency is not the first value
    gone = row(timing="graph", status="skipped", reason="too large")
    assert (
        chosen(Run(Path("f"), record(), (gone, timed(1.0, timing="device"))))["timing"] == "device"
    )
    assert chosen(simulated_run())["timing"] == "device"
    assert chosen(Run(Path("f"), record(), ()))["phase"] == ""


def test_profiles_of_a_run_are_embedded(tmp_path):
    path = save(sweep_run(), tmp_path)
    add_profile(path, profile_of(sweep_run()))
    page = Page(render([read_run(path)]))
    many, one = page.data["trials"]
    assert [many["rung"], many["tool"], len(many["starts"])] == ["r01", "nsys 2025.3", 64]
    assert many["starts"][:3] == [0, 1.5, 3]
    assert one["durations"] == [24]
    assert "timeline" in page.data["figures"]


def test_timelines_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("gspn2bench.report.html.data.MOST_LAUNCHES", 64)
    path = save(sweep_run(), tmp_path)
    add_profile(path, profile_of(sweep_run()))
    many, one = Page(render([read_run(path)])).data["trials"]
    assert len(many["starts"]) == 64
    assert one["starts"] == []
    assert one["gpu_ms"] == pytest.approx(0.024)


def test_base_against_new_says_what_compare_says():
    base, new = sweep_run(), slower(sweep_run(), "r07", 1.08)
    page = Page(render([base, new]))
    assert "192 rows compared, threshold 3 %: 96 SAME, 96 SLOWER." in page.text
    (rows,) = page.data["changes"]
    assert {(row["rung"], row["verdict"]) for row in rows} == {("r01", "SAME"), ("r07", "SLOWER")}
    worse = next(row for row in rows if row["rung"] == "r07")
    assert worse["change"] == "+8.0"
    assert worse["new_ms"] == pytest.approx(1.08 * worse["base_ms"])


def test_a_lost_latency_is_reported():
    base = sweep_run()
    lost = base.rows[0].model_copy(
        update={"status": "failed", "reason": "a fault", "latency_ms": None, "samples_ms": ()}
    )
    other = base.record.model_copy(update={"run_id": "lost"})
    page = Page(render([base, Run(Path("l"), other, (lost, *base.rows[2:]))]))
    first, second = page.data["changes"][0][:2]
    assert [first["verdict"], first["why"]] == ["LOST", "new: failed: a fault"]
    assert [second["verdict"], second["why"]] == ["not compared", "new: no such row"]
    assert "1 lost" in page.text


def test_runs_that_cannot_be_compared_say_why():
    page = Page(render([real_run(), simulated_run()]))
    assert "Not compared: quick-20260101T000000Z-51a71d is simulated" in page.text
    assert page.data["changes"] == [[]]


def test_several_runs_are_kept_apart():
    page = Page(render([real_run(), simulated_run()]))
    assert len(page.all("article")) == 2
    assert "Facts that differ between the runs are marked." in page.text


def test_no_run_and_the_same_run_twice_are_refused():
    with pytest.raises(UsageError, match="at least one"):
        render([])
    with pytest.raises(UsageError, match="twice"):
        render([real_run(), real_run()])


def test_write_replaces_only_a_report_of_the_same_runs(tmp_path):
    path = tmp_path / "new" / "report.html"
    write([simulated_run()], path)
    write([simulated_run()], path)
    with pytest.raises(UsageError, match="is not a report of fixture-"):
        write([real_run()], path)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_if_a_report_cannot_be_replaced_the_old_one_stays_whole(step, tmp_path, monkeypatch):
    """The disk is full: half of the file is written, or it is not renamed."""
    path = tmp_path / "report.html"
    write([simulated_run()], path)
    before = path.read_bytes()

    def fail(file, text, **options):
        if step == "write_text":
            file.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(UsageError, match="can't be written: No space left"):
        write([simulated_run()], path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_write_reports_a_file_that_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match="can't be written"):
        write([simulated_run()], tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match="can't be written"):
        write([simulated_run()], tmp_path)


@pytest.fixture
def app():
    result = typer.Typer()
    result.command()(report)
    return result


def test_command_writes_to_the_given_file_and_prints_its_path(app, tmp_path, monkeypatch):
    save(simulated_run(), tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["latest"])
    assert done.stdout == "reports/quick-20260101T000000Z-51a71d.html\n"
    assert (tmp_path / done.stdout.strip()).is_file()
    long = tmp_path / ("long" * 40) / "name.html"
    done = CliRunner().invoke(app, ["quick", "--results", "results", "-o", str(long)])
    assert done.stdout == f"{long}\n"
    assert long.is_file()


def test_command_refuses_an_unknown_run(app, tmp_path):
    save(simulated_run(), tmp_path)
    done = CliRunner().invoke(app, ["quikc", "--results", str(tmp_path)])
    assert isinstance(done.exception, UsageError)


def test_default_path_stays_in_reports():
    assert default_path(["../../etc/x"]) == Path("reports/_.._etc_x.html")
    assert default_path(["a", "b", "c"]) == Path("reports/a+b+1-more.html")


def test_png_without_a_browser_names_the_package_to_install(app, tmp_path, monkeypatch):
    save(sweep_run(), tmp_path)
    monkeypatch.setattr("gspn2bench.report.html.pictures.find_chromium", lambda: None)
    done = CliRunner().invoke(
        app, ["latest", "--png", str(tmp_path / "png"), "--results", str(tmp_path)]
    )
    assert isinstance(done.exception, UsageError)
    assert "--png: needs a browser, and none was found" in str(done.exception)
    assert "apt-get install chromium" in str(done.exception)
    assert not (tmp_path / "png").exists()


def test_png_reports_a_failed_browser(tmp_path, monkeypatch):
    for tool, how in (
        ("/bin/false", "failed with exit code 1;"),
        ("/bin/true", "is too old to draw it"),
        ("/bin/no-such-browser", "can't be run: No such file or directory;"),
    ):
        monkeypatch.setattr(
            "gspn2bench.report.html.pictures.find_chromium", lambda tool=tool: Path(tool)
        )
        with pytest.raises(UsageError, match=rf"--png: .*{tool} {how}"):
            write_pictures([sweep_run()], tmp_path)


@pytest.mark.parametrize("more", [["--markdown"], ["-o", "x.html"]])
def test_png_cannot_be_combined(app, tmp_path, more):
    save(sweep_run(), tmp_path)
    done = CliRunner().invoke(app, ["latest", "--png", "x", "--results", str(tmp_path), *more])
    assert isinstance(done.exception, UsageError)
    assert "can't be combined with --markdown or --output" in str(done.exception)


def test_command_prints_its_files_as_json(app, tmp_path):
    save(simulated_run(), tmp_path)
    page = str(tmp_path / "r.html")
    where = ["latest", "--results", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, [*where, "-o", page])
    assert json.loads(done.stdout) == {"files": [page]}
    refused = CliRunner().invoke(app, [*where, "--markdown"])
    assert isinstance(refused.exception, UsageError)


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        (
            "import gspn2bench.commands.report, gspn2bench.commands.show",
            "pandas plotly pydantic rich",
        ),
        ("from gspn2bench.report.html import page; page._plotly()", "numba torch"),
    ],
)
def test_imports_stay_light(code, banned):
    check = f"{code}\nimport sys\nsys.exit(' '.join(set({banned!r}.split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
