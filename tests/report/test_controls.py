"""Every control of the report, used as a reader would use it, and its effects."""

import csv
import json
import re
import time

import pytest

from gspn2bench.records.schema import Published
from gspn2bench.records.store import Run, add_profile, read_run
from gspn2bench.report import write, write_pictures
from gspn2bench.report.formatting import TIMES

from ..helpers.report_browser import choose, figure, settle, show, started, table, tick
from ..helpers.report_fixtures import (
    large_run,
    profile_of,
    real_run,
    record,
    save,
    slower,
    sweep_run,
    timed,
)

pytestmark = pytest.mark.browser

ROW_COUNT = "return document.querySelector('#row-count').textContent"
SHOWN = "return document.querySelector('#shown').textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("controls")


@pytest.fixture(scope="module")
def browser(folder):
    with started(folder) as driver:
        yield driver


@pytest.fixture(scope="module")
def swept(folder):
    """A sweep with one case of shared weights, one case scanned up, and a profile."""
    run = sweep_run()
    case = {"height": 64, "width": 64}
    more = (
        timed(0.004, rung="r07", weights="shared", **case),
        timed(0.006, rung="r07", direction="up", **case),
    )
    path = save(Run(run.path, run.record, run.rows + more), folder)
    add_profile(path, profile_of(run))
    return read_run(path)


@pytest.fixture(scope="module")
def page(folder, swept):
    write([swept], folder / "sweep.html")
    return folder / "sweep.html"


def bars(browser, name="ladder"):
    """The values of the first series of bars."""
    return figure(browser, name)["data"][0]["x"]


def ticks(browser, name="ladder"):
    return figure(browser, name)["layout"]["yaxis"]["ticktext"]


def latencies(run, **wanted):
    rows = [r for r in run.rows if all(getattr(r, key) == value for key, value in wanted.items())]
    return [r.latency_ms for r in rows]


CHANNEL = {"phase": "forward", "timing": "graph", "dtype": "float32", "weights": "channel"}


def test_the_main_case_is_shown_first(browser, page, swept):
    show(browser, page)
    assert browser.execute_script(SHOWN) == (
        "Shown: r01, r07 · forward · graph time · float32 · channel weights · any direction."
        " 25 rows, 25 with a latency."
    )
    assert sorted(bars(browser)) == pytest.approx(sorted(latencies(swept, **CHANNEL)), rel=1e-5)


def test_rungs_are_removed_from_every_figure(browser, page):
    show(browser, page)
    assert {trace["name"] for trace in figure(browser, "size")["data"]} >= {"r01 right", "r07 down"}
    tick(browser, "r01")
    assert not any("r01" in label for label in ticks(browser) + ticks(browser, "launches"))
    assert not any("r01" in trace["name"] for trace in figure(browser, "size")["data"])
    assert not any("r01" in trace["name"] for trace in figure(browser, "roofline")["data"])
    assert {row["rung"] for row in table(browser, "#rows")} == {"r07"}
    assert len(figure(browser, "timeline")["data"]) == 1
    tick(browser, "r07")
    assert figure(browser, "ladder") is None
    assert "no rung" in browser.execute_script(SHOWN)
    tick(browser, "r01")
    assert figure(browser, "heat") is None
    assert [trace["name"] for trace in figure(browser, "timeline")["data"]] == ["r01"]


@pytest.mark.parametrize(
    ("control", "value"),
    [("phase", "backward"), ("timing", "device"), ("dtype", "float16")],
)
def test_a_filter_changes_every_figure(browser, page, swept, control, value):
    show(browser, page)
    names = ["ladder", "size", "channels", "batch", "slices", "heat", "roofline", "samples"]
    before = {name: figure(browser, name)["data"] for name in names}
    choose(browser, f"choose-{control}", value)
    wanted = CHANNEL | {control: value}
    assert sorted(bars(browser)) == pytest.approx(sorted(latencies(swept, **wanted)), rel=1e-5)
    for name in names:
        assert figure(browser, name)["data"] != before[name], name
    assert value in browser.execute_script(SHOWN)
    rows = table(browser, "#rows")
    assert len(rows) == len(latencies(swept, **wanted))
    browser.find_element("css selector", "button[type=reset]").click()
    browser.execute_script("return new Promise((done) => setTimeout(done, 50))")
    settle(browser)
    assert figure(browser, "ladder")["data"] == before["ladder"]


def test_weights_and_direction(browser, page):
    show(browser, page)
    choose(browser, "choose-weights", "shared")
    assert bars(browser) == [0.004]
    assert figure(browser, "size") is None
    words = browser.find_element("css selector", "[data-figure=size] .words").text
    assert words == "Nothing to plot: with these filters the size does not vary on its own."
    choose(browser, "choose-weights", "channel")
    assert 0.006 in bars(browser)
    choose(browser, "choose-direction", "up")
    assert bars(browser) == [0.006]
    assert ticks(browser) == ["r07"]


def test_launches_and_bytes_follow_the_phase(browser, page):
    show(browser, page)
    once = bars(browser, "bytes")
    choose(browser, "choose-phase", "backward")
    assert max(bars(browser, "bytes")) == pytest.approx(2 * max(once))
    choose(browser, "choose-dtype", "float16")
    assert max(bars(browser, "bytes")) == pytest.approx(max(once))


def test_the_timeline_follows_the_phase(browser, page):
    show(browser, page)
    many, one = figure(browser, "timeline")["data"]
    assert len(many["base"]) == 64
    assert one["x"] == [24]
    choose(browser, "choose-phase", "backward")
    assert figure(browser, "timeline") is None


def test_launches_without_a_start_are_in_the_table_of_the_timeline(browser, folder, swept):
    """Nsight Compute serializes launches, so its trials apply to any latency and are not drawn."""
    profile = profile_of(swept)
    seen = {"timing": "eager", "span_ms": None, "gap_ms": None}
    trials = [
        trial.model_copy(
            update=seen
            | {"timeline": tuple(x.model_copy(update={"start_us": None}) for x in trial.timeline)}
        )
        for trial in profile.trials
    ]
    path = save(slower(sweep_run(), "r07", 1.01), folder)
    add_profile(path, profile.model_copy(update={"tool": "ncu", "trials": tuple(trials)}))
    write([read_run(path)], folder / "counted.html")
    show(browser, folder / "counted.html")
    assert figure(browser, "timeline") is None
    words = browser.find_element("css selector", "[data-figure=timeline] .words")
    assert words.text.startswith("Nsight Compute runs launches one by one")
    lines = table(browser, "[data-figure=timeline]")
    assert [(line["rung"], line["launches"]) for line in lines] == [("r01", "64"), ("r07", "1")]


def test_intervals_and_axes_are_drawn(browser, page, swept):
    show(browser, page)
    drawn = figure(browser, "size")
    assert drawn["layout"]["xaxis"]["type"] == drawn["layout"]["yaxis"]["type"] == "log"
    line = next(trace for trace in drawn["data"] if trace["name"] == "r01 right")
    assert line["x"] == [64, 128, 256, 512]
    assert line["error_y"]["array"] == pytest.approx([0.01 * y for y in line["y"]], rel=1e-3)
    heat = figure(browser, "heat")["data"][0]
    assert [heat["x"], heat["y"]] == [["4", "8", "32"], ["1", "4", "16"]]
    wanted = CHANNEL | {"batch": 4, "channels": 32, "height": 256}
    slow, fast = latencies(swept, **wanted)
    assert heat["z"][1][2] == pytest.approx(slow / fast, rel=1e-4)


def test_samples_of_a_chosen_row(browser, page, swept):
    show(browser, page)
    fast = next(r for r in swept.rows if r.rung == "r07" and r.height == 512)
    choose(browser, "sample-row", str(swept.rows.index(fast)))
    assert figure(browser, "samples")["data"][0]["y"] == pytest.approx(fast.samples_ms, rel=1e-4)
    numbers = table(browser, "[data-figure=samples]")
    assert len(numbers) == len(fast.samples_ms)


def test_a_row_of_the_table_shows_its_samples(browser, page, swept):
    show(browser, page)
    browser.find_element("id", "follow").send_keys(" ")
    settle(browser)
    wanted = next(r for r in swept.rows if r.dtype == "float16" and r.timing == "device")
    button = browser.find_elements("css selector", "#rows td button")[swept.rows.index(wanted)]
    browser.execute_script("arguments[0].click()", button)
    settle(browser)
    drawn = figure(browser, "samples")["data"][0]
    assert drawn["y"] == pytest.approx(wanted.samples_ms, rel=1e-4)
    assert "device time · float16" in browser.execute_script(SHOWN)


def test_the_table_is_filtered_sorted_and_paged(browser, page, swept):
    show(browser, page)
    everything = len(swept.rows)
    browser.find_element("id", "follow").send_keys(" ")
    settle(browser)
    count = f"{everything} of {everything} rows, the first 100 shown."
    assert browser.execute_script(ROW_COUNT) == count
    browser.find_element("id", "show-all").click()
    assert len(table(browser, "#rows")) == everything
    words = browser.find_element("id", "filter")
    words.send_keys("r07 BACKWARD float16 512x512")
    assert browser.execute_script(ROW_COUNT) == f"2 of {everything} rows."
    words.clear()
    words.send_keys("r07 float32 graph forward")
    header = "//section[@id='rows']//th[button='latency, ms']"
    for order, wanted in (("ascending", False), ("descending", True)):
        browser.find_element("xpath", header + "/button").send_keys("\n")
        assert browser.find_element("xpath", header).get_attribute("aria-sort") == order
        latencies = [float(row["latency, ms"]) for row in table(browser, "#rows")]
        assert len(latencies) > 10
        assert latencies == sorted(latencies, reverse=wanted)
    # the header keeps the focus, although the table is rebuilt
    assert browser.switch_to.active_element.text == "latency, ms"


def saved(folder, ending):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if files := list((folder / "downloads").glob(f"*.{ending}")):
            return files[0].read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError(f"no .{ending} was saved")


def test_rows_are_saved_as_csv_and_json(browser, folder, page, swept):
    show(browser, page)
    browser.find_element("id", "filter").send_keys("r07")
    browser.find_element("id", "save-csv").click()
    browser.find_element("id", "save-json").click()
    ours = [r for r in swept.rows if r.rung == "r07"]
    ours = [r for r in ours if all(getattr(r, key) == value for key, value in CHANNEL.items())]
    lines = list(csv.DictReader(saved(folder, "csv").splitlines()))
    assert [line["case"] for line in lines] == [r.case for r in ours]
    assert [float(line["latency_ms"]) for line in lines] == pytest.approx(
        [r.latency_ms for r in ours], rel=1e-5
    )
    records = json.loads(saved(folder, "json"))
    assert [each["bytes_model"] for each in records] == [r.bytes_model for r in ours]
    assert records[0]["samples_ms"] == pytest.approx(ours[0].samples_ms, rel=1e-4)
    assert [line["run"] for line in lines] == [swept.record.run_id] * len(ours)


def test_formulas_are_escaped_for_spreadsheets(browser, page):
    show(browser, page)
    rows = [{"a": "=1+1", "b": -2}, {"a": 'x,"y"', "b": None}]
    text = browser.execute_script("return grid.csv(['a', 'b'], arguments[0])", rows)
    assert text == 'a,b\r\n\'=1+1,-2\r\n"x,""y""",\r\n'


def test_numbers_read_as_in_the_terminal(browser, page):
    from gspn2bench.report import formatting

    show(browser, page)
    values = [0.77, 31.6, 4185.3, 0.0001234, 12288, 3_221_225_472, 1]
    for name in ("number", "size", "count", "percent", "scientific", "speedup"):
        script = f"return arguments[0].map((value) => formatting.{name}(value))"
        theirs = browser.execute_script(script, values)
        assert theirs == [getattr(formatting, name)(value) for value in values], name


def test_a_label_of_a_figure_is_cut_and_then_escaped(browser, page):
    """Plotly reads labels as HTML."""
    show(browser, page)
    labels = {
        "<" * 9: "&lt;" * 9,
        "a\u202eb": "a\N{REPLACEMENT CHARACTER}b",
        "x" * 60: "x" * 43 + "…",
        "<" * 60: "&lt;" * 43 + "…",
        "A&'\"": "A&amp;&#x27;&quot;",
    }
    script = "return arguments[0].map((v) => formatting.label(v))"
    assert browser.execute_script(script, [*labels]) == [*labels.values()]


def test_of_two_runs_one_is_shown_and_the_changes_follow(browser, folder):
    base, new = sweep_run(), slower(sweep_run(), "r07", 1.08)
    write([base, new], folder / "two.html")
    show(browser, folder / "two.html")
    before = bars(browser)
    changes = table(browser, "[data-changes]")
    assert len(changes) == 24
    assert {row["verdict"] for row in changes if row["rung"] == "r07"} == {"SLOWER"}
    tick(browser, "r07")
    assert {row["verdict"] for row in table(browser, "[data-changes]")} == {"SAME"}
    tick(browser, "r07")
    choose(browser, "choose-run", base.record.run_id)
    after = bars(browser)
    assert sorted(after) != pytest.approx(sorted(before))
    assert sorted(after) == pytest.approx(sorted(latencies(base, **CHANNEL)), rel=1e-5)


def test_published_figures_are_drawn_with_ours(browser, folder):
    rate = Published(rung="r01", gbps=94.0, machine="A100", source="Table 1")
    run = real_run()
    record = run.record.model_copy(update={"published": (*run.record.published, rate)})
    write([Run(run.path, record, run.rows)], folder / "published.html")
    show(browser, folder / "published.html")
    drawn = figure(browser, "ladder")
    ours, published = drawn["data"][:2]
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert ours["x"][0] == pytest.approx(32.232)
    assert ours["error_x"]["array"][0] == pytest.approx(0.32232, rel=1e-4)
    assert published["x"] == [71.4, 57.4, 2.4, 1.8]
    assert ours["marker"]["pattern"]["shape"] != published["marker"]["pattern"]["shape"]
    texts = " ".join(drawn["data"][-1]["text"])
    assert "incorrect" in texts
    note = browser.find_element("css selector", "[data-figure=ladder] .note").text
    assert "Published GB/s appear only in the table" in note
    assert 94.0 not in published["x"]
    cells = table(browser, "[data-figure=ladder]")
    assert "94.0" in {row["published, GB/s as the source counts"] for row in cells}
    assert f"41.0{TIMES}" in texts
    choose(browser, "choose-timing", "eager")
    eager = " ".join(figure(browser, "ladder")["data"][-1]["text"])
    assert not re.search(rf"\d{TIMES}|slower", eager)


def test_a_ratio_below_1_reads_as_a_slow_down(browser, folder):
    run = sweep_run(base="r07")
    write([run], folder / "slow.html")
    show(browser, folder / "slow.html")
    texts = " ".join(figure(browser, "ladder")["data"][-1]["text"])
    assert f"{TIMES} slower" in texts
    tick(browser, "r07")
    heat = figure(browser, "heat")["data"][0]
    assert heat["text"][1][2].endswith(f"{TIMES} slower")
    assert {text.split()[-1] for text in heat["colorbar"]["ticktext"]} == {"slower"}
    tick(browser, "r07")
    for where in ("#rows", "[data-figure=ladder]", "[data-figure=size]"):
        for line in table(browser, where):
            one = line["speed-up"] == "1.00x"
            assert one == (line["rung"].startswith("r07")), line
            assert line["base"] == "r07"
            assert one or line["speed-up"].endswith("x slower")


def test_a_narrow_page_omits_a_slow_down_that_does_not_fit(browser, folder):
    rows = (timed(1.0, rung="r07"), timed(2.3, rung="attention_cudnn_compiled"))
    write([Run(folder, record(base="r07"), rows)], folder / "narrow.html")
    for width, shown in ((1100, True), (400, False)):
        show(browser, folder / "narrow.html", width)
        texts = " ".join(figure(browser, "ladder")["data"][-1]["text"])
        assert ("2.30x slower" in texts) is shown


def test_many_cases_are_cut_with_a_note(browser, folder):
    write([large_run(400, 5)], folder / "large.html")
    show(browser, folder / "large.html")
    assert len(figure(browser, "ladder")["layout"]["annotations"]) == 24
    note = browser.find_element("css selector", "[data-figure=ladder] .note").text
    assert note == "The first 24 of 40 cases; the table of all rows lists every case."


def test_a_shortened_tick_keeps_its_quantity(browser, folder):
    name = "attention_cudnn_compiled"
    run = real_run()
    write([Run(run.path, run.record, (timed(1.0, rung=name),))], folder / "long.html")
    quantities = ["expected", "observed"]
    show(browser, folder / "long.html")
    assert ticks(browser, "launches") == [f"{name} {quantity}" for quantity in quantities]
    # the legend names a single quantity
    assert ticks(browser, "bytes") == [name]
    show(browser, folder / "long.html", 400)
    for tick_text, quantity in zip(ticks(browser, "launches"), quantities, strict=True):
        cut = tick_text.removesuffix(f"… {quantity}")
        assert cut != tick_text
        assert name.startswith(cut)


def test_rungs_have_distinct_styles(browser, folder):
    run = real_run()
    rows = tuple(timed(1.0 + number, rung=f"r{number:02}") for number in range(1, 21))
    write([Run(run.path, run.record, rows)], folder / "rungs.html")
    show(browser, folder / "rungs.html")
    rates = [trace for trace in figure(browser, "roofline")["data"] if trace["mode"] == "markers"]
    looks = {(trace["marker"]["color"], trace["marker"]["symbol"][0]) for trace in rates}
    assert len(looks) == len(rows)


def test_pictures_are_drawn(browser, folder, swept):
    stale = folder / "png" / f"{swept.record.run_id}-heat.png"
    stale.parent.mkdir()
    stale.write_text("an earlier picture")
    files = write_pictures([swept], folder / "png")
    assert stale in files
    names = {file.stem.rpartition("-")[2] for file in files}
    assert names >= {"ladder", "size", "heat", "roofline", "launches", "samples", "timeline"}
    for file in files:
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert int.from_bytes(data[16:20]) == 1920
        assert len(data) > 10_000
