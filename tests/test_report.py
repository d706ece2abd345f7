import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gspn2bench.commands.report import default_path, report
from gspn2bench.errors import UsageError
from gspn2bench.report import render, write
from gspn2bench.report.text import chart_label, number, script_json, size
from gspn2bench.report.verdict import verdict
from gspn2bench.schema import Published
from gspn2bench.store import Run

from .report_fixtures import HOSTILE, hostile_run, real_run, record, save, simulated_run, timed

BREAKS = "\u2028\u2029"


class Page(HTMLParser):
    """The page as a browser would take it apart: tags, figures and the text people see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[dict] = []
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
            self.figures.append(json.loads(data))
        elif self._inside not in ("script", "style"):
            self.text += data

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


def test_one_file_that_needs_nothing(real):
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
    assert len(charts) == len(tables) == len(page.figures) > 4


def test_figures_are_valid_plotly_and_never_phone_home(real):
    import plotly.graph_objects as go

    for figure in Page(real).figures:
        assert figure["config"]["showSendToCloud"] is False
        assert figure["config"]["displaylogo"] is False
        plain = re.sub(r"var\(--[\w-]+\)", "red", json.dumps(figure))
        # refuses a name or a value that plotly does not know
        go.Figure(json.loads(plain)["data"], json.loads(plain)["layout"])


def test_ladder_shows_ours_beside_the_published(real):
    ladder = Page(real).figures[0]
    ours, published = ladder["data"][:2]
    assert ladder["layout"]["xaxis"]["type"] == "log"
    assert ours["x"][0] == pytest.approx(32.232)
    assert ours["error_x"]["array"][0] == pytest.approx(0.32232)
    assert published["x"] == [71.4, 57.4, 2.4, 1.8]
    assert ours["marker"]["pattern"]["shape"] != published["marker"]["pattern"]["shape"]
    assert "published: NVIDIA A100; GSPN-2 (arXiv 2512.07884), Figure 3" in Page(real).text


def test_published_rate_is_told_but_not_drawn():
    figure = Published(rung="r01", gbps=94.0, machine="A100", source="Table 1")
    page = Page(render([Run(Path("f"), record(published=[figure]), (timed(31.6),))]))
    assert [trace["type"] for trace in page.figures[0]["data"]] == ["bar", "scatter"]
    assert "Published GB/s stand in the table only" in page.text
    assert "94.0" in page.text


def test_timings_are_never_in_one_chart(real):
    first, *others = [
        f for f in Page(real).figures if f["layout"]["xaxis"]["title"]["text"].startswith("latency")
    ]
    assert 31.6 not in first["data"][0]["x"]
    assert [f["data"][0]["x"][0] for f in others[:2]] == pytest.approx([31.6, 41.08])


def test_failed_rows_stand_with_their_reasons(real):
    text = Page(real).text
    for words in ("h[3, 0, 1, 2] is nan", "needs 512 columns", "needs 150.3 GB"):
        assert words in text
    assert "incorrect" in json.dumps(Page(real).figures[0])


def test_command_environment_and_copy_bandwidth(real):
    text = Page(real).text
    assert "gspn2bench sweep fixture --rung r01,r07 -a 'size=[256, 512]'" in text
    assert "packages.numba" in text
    assert "4,180 GB/s (4,160 to 4,190 over 3 samples)" in text


def test_simulated_report_has_no_latency_and_says_why(simulated):
    page = Page(simulated)
    assert "latencies are empty (no CUDA driver was found)." in page.text
    assert "Correctness: 3 of 3 gates green" in page.text
    assert "Launches: 3 of 3 counts as the formula says" in page.text
    assert "skipped, simulated" in page.text
    titles = [figure["layout"]["xaxis"]["title"]["text"] for figure in page.figures]
    assert titles == ["launches of one call (log scale)", "bytes of one call (log scale)"]
    assert "GB/s that" not in page.text


def test_hostile_names_are_inert_in_the_page(hostile):
    page = Page(hostile)
    assert not page.all("img")
    assert not page.all("b")
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert HOSTILE in page.text
    assert len(page.all("script")) == len(page.figures) + 2


def test_hostile_names_are_inert_in_the_json(hostile):
    for found in re.findall(r'<script type="application/json">(.*?)</script>', hostile, re.DOTALL):
        assert not set("<>&" + BREAKS) & set(found)


def test_hostile_names_are_inert_in_plotly_labels(hostile):
    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from strings(item)

    texts = [text for figure in Page(hostile).figures for text in strings(figure)]
    assert any("&lt;/script&gt;" in text for text in texts)
    # bold headings and line breaks of the hover text are ours
    ours = re.compile(r"^<b>[^<>]*</b>$|^[^<>]*<br>[^<>]*$|^[^<>]*$")
    assert [text for text in texts if not ours.match(text)] == []


def test_nan_is_refused_in_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json({"x": [math.nan]})


def test_label_is_cut_before_it_is_escaped():
    assert chart_label("<" * 9, 4) == "&lt;&lt;&lt;…"


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
    assert verdict(run).headline == (
        "r07 is 40.0 times as fast as r01 on N16 C8 1024x1024 float32, forward:"
        " 0.790 ms against 31.6 ms (graph time, cold L2, Fixture GPU)."
    )


def test_verdict_of_several_cases_and_passes():
    said = verdict(real_run())
    assert said.headline.startswith(
        "r07 is 15.9 to 41.0 times as fast as r01 over 2 cases, forward"
    )
    assert "Correctness: 7 of 8 gates green" in " ".join(said.details)
    assert "Not ok: 7 of 26 rows (3 incorrect, 3 skipped, 1 oom)." in said.details


def test_verdict_does_not_cry_wolf():
    run = Run(Path("f"), record(), (timed(1.0, 0.1), timed(0.95, 0.1, rung="r07")))
    assert "r07 and r01 cannot be told apart" in verdict(run).headline


def test_verdict_never_quotes_eager_time():
    rows = (timed(31.6, timing="eager"), timed(0.79, rung="r07", timing="eager"))
    assert "No speed-up is quoted" in verdict(Run(Path("f"), record(), rows)).headline


def test_verdict_without_rows_or_numbers():
    assert verdict(Run(Path("f"), record(), ())).headline == "No row has a latency."
    bad = timed(1.0, gate_error=1.0)
    assert "the gate is not green" in verdict(Run(Path("f"), record(), (bad,))).headline
    render([Run(Path("f"), record(), ())])


def test_many_cases_are_cut_with_a_word():
    rows = [timed(1.0 + n, case=f"case {n}", bytes_model=10**9) for n in range(40)]
    page = Page(render([Run(Path("f"), record(), tuple(rows))]))
    assert len(page.figures[0]["data"][0]["x"]) == 24
    assert "The first 24 of 40 cases" in page.text
    assert "case 39" in page.text


def test_two_thousand_rows_stay_under_6_mb():
    rows = [
        timed(1.0, case=f"N{n % 400} C8 1024x1024 float32", rung=f"r{n % 5 + 1:02}", seed=n)
        for n in range(2000)
    ]
    assert len(render([Run(Path("f"), record(), tuple(rows))]).encode()) < 6_000_000


def test_several_runs_are_kept_apart():
    page = Page(render([real_run(), simulated_run()]))
    assert len(page.all("article")) == 2
    assert "quick-20260101T000000Z-51a71d, forward, simulated" in page.text
    assert "Facts that differ between the runs are marked." in page.text


def test_no_run_and_the_same_run_twice_are_refused():
    with pytest.raises(UsageError, match="at least one"):
        render([])
    with pytest.raises(UsageError, match="twice"):
        render([real_run(), real_run()])


def test_write_replaces_its_own_report_only(tmp_path):
    path = tmp_path / "new" / "report.html"
    write([simulated_run()], path)
    write([simulated_run()], path)
    with pytest.raises(UsageError, match="is no report of fixture-"):
        write([real_run()], path)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_write_says_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot be written"):
        write([simulated_run()], tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match="cannot be written"):
        write([simulated_run()], tmp_path)


@pytest.fixture
def app():
    made = typer.Typer()
    made.command()(report)
    return made


def test_command_writes_where_asked_and_prints_the_path(app, tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        (
            "import gspn2bench.commands.report, gspn2bench.commands.show",
            "pandas plotly pydantic rich",
        ),
        ("import gspn2bench.report as r; r.page._plotly()", "numba torch"),
    ],
)
def test_imports_stay_light(code, banned):
    check = f"{code}\nimport sys\nsys.exit(' '.join(set({banned!r}.split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
