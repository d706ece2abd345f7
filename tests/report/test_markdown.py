"""Reports as Markdown, parsed as GitHub parses them."""

import html
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from gspn2bench.analysis.frame import frame
from gspn2bench.app import app
from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Published
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import number, percent, speedup
from gspn2bench.report.text import ladder, markdown
from gspn2bench.report.text.ladder import Lesson

from ..helpers.report_fixtures import (
    NO_GATE,
    hostile_run,
    module_run,
    real_run,
    record,
    row,
    save,
    simulated_run,
    timed,
)

HOSTILE = "<img src=x onerror=alert(1)> | `a` *b* [c](javascript:d) $e$ ![f](g)\n\n# h\n- i\x1b[0m"
PUBLISHED = "published on NVIDIA A100, ms (GSPN-2 (arXiv 2512.07884), Figure 3)"


def unescaped(text: str) -> str:
    return html.unescape(re.sub(r"\\([^\w\s])", r"\1", text))


def tables(page: str) -> dict[str, pd.DataFrame]:
    """The tables by their headings; every row must have as many cells as the header."""
    result = {}
    for section in re.split(r"^#+ ", page, flags=re.MULTILINE):
        lines = [line for line in section.splitlines() if line.startswith("|")]
        if lines:
            head, rule, *rows = [
                [unescaped(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for line in lines
            ]
            assert set("".join(rule)) <= set("-:")
            assert all(len(row) == len(head) == len(rule) for row in rows)
            result[unescaped(section.splitlines()[0])] = pd.DataFrame(rows, columns=head)
    return result


def as_seen(name: str) -> str:
    """A name as a reader should see it: on one line, without control characters."""
    return " ".join(name.replace("\x1b", "\N{REPLACEMENT CHARACTER}").split())


def lone(name: str) -> Run:
    """A run of one row, skipped for this reason."""
    return Run(Path("x"), record(), (row(status="skipped", reason=name, **NO_GATE),))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_table_for_each_case_and_phase_says_what_the_frame_says() -> None:
    run = real_run()
    page = markdown.render([run])
    by_case = tables(page)
    assert list(by_case) == [
        "N16 C8 1024x1024 float32, forward, cold L2",
        "N1 C64 256x256 float32, forward, cold L2",
        "N16 C8 1024x1024 float32, backward, cold L2",
    ]
    table = frame([run])
    assert sum(map(len, by_case.values())) == len(table)
    shown = by_case["N16 C8 1024x1024 float32, forward, cold L2"]
    assert list(shown["timing"].unique()) == ["graph", "device", "eager"]
    for _, line in shown.iterrows():
        (row,) = table[
            (table["rung"] == line["rung"])
            & (table["timing"] == line["timing"])
            & (table["case"] == "N16 C8 1024x1024 float32")
            & (table["phase"] == "forward")
        ].to_dict("records")
        assert line["latency, ms"] == number(row["latency_ms"])
        assert line["share of copy bandwidth"] == percent(row["copy_share"])
        assert line["floor / latency"] == percent(row["floor_share"])
        assert line["model bytes / latency, GB/s"] == number(row["gbps"])
        quoted = row["timing"] != "eager"
        assert line["speed-up"] == (speedup(row["speedup"]) if quoted else "")
        assert line["status"] == row["status"]


def test_a_ratio_below_1_reads_as_a_slow_down() -> None:
    rows = (timed(1.0, rung="r07"), timed(2.3, rung="r07_unfused"))
    page = markdown.render([Run(Path("x"), record(), rows)])
    (shown,) = tables(page).values()
    assert shown["speed-up"].to_list() == ["1.00x", "2.30x slower"]
    assert shown["base"].to_list() == ["r07", "r07"]
    assert "**r07\\_unfused is 2.30x slower than r07 on" in page


def test_host_time_is_a_column_and_a_note_where_a_run_has_it() -> None:
    page = markdown.render([module_run()])
    (shown,) = tables(page).values()
    shown = shown.set_index(["timing", "rung"])["host time, ms"]
    assert shown["eager", "gspn2"] == "0.821"
    assert set(shown["graph"]) == {""}
    assert page.endswith(f"{markdown.NOTES} {markdown.HOST_NOTE}\n")
    assert "host time" not in markdown.render([real_run()]).lower()


def test_interval_launches_and_reasons() -> None:
    by_case = tables(markdown.render([real_run()]))
    shown = by_case["N16 C8 1024x1024 float32, forward, cold L2"].set_index(["timing", "rung"])
    best = shown.loc["graph", "r07"]
    assert best["95 % interval, ms"] == "0.778 to 0.793"
    assert (best["launches expected"], best["launches observed"]) == ("1", "1")
    wrong = shown.loc["graph", "r06"]
    assert wrong["latency, ms"] == wrong["95 % interval, ms"] == ""
    assert (wrong["status"], wrong["reason"]) == ("incorrect", "h[3, 0, 1, 2] is nan")


def test_published_figures_have_their_own_column_once_per_rung() -> None:
    by_case = tables(markdown.render([real_run()]))
    shown = by_case["N16 C8 1024x1024 float32, forward, cold L2"].set_index(["timing", "rung"])
    assert shown.loc["graph", PUBLISHED].to_dict() == {
        "r01": "71.4",
        "r02": "57.4",
        "r03": "2.40",
        "r06": "",
        "r07": "1.80",
    }
    assert set(shown.loc[["device", "eager"], PUBLISHED]) == {""}
    assert not any("published" in column for column in by_case[list(by_case)[1]].columns)


def test_no_published_figure_is_lost() -> None:
    figures = [
        Published(rung="r07", machine="A100", source="a", latency_ms=1.8),
        Published(rung="r07", machine="A100", source="a", latency_ms=1.9),
        Published(rung="r07", machine="A100", source="a", gbps=1832),
        Published(rung="r07", machine="H100", source="b", latency_ms=1.2),
    ]
    run = Run(Path("x"), record(published=figures), (timed(31.6), timed(0.77, rung="r07")))
    (shown,) = tables(markdown.render([run])).values()
    line = shown.set_index("rung").loc["r07"]
    assert line["published on A100, ms (a)"] == "1.80, 1.90"
    assert line["published on A100, GB/s as the source counts (a)"] == "1,832"
    assert line["published on H100, ms (b)"] == "1.20"


def test_the_verdict_and_the_command_come_first() -> None:
    page = markdown.render([real_run(), simulated_run()])
    assert "**r07 is 15.9x to 41.0x faster than r01" in page
    assert "    gspn2bench sweep fixture --rung r01,r07 -a 'size=[256, 512]'" in page
    assert page.count("\n## ") == 2


def test_a_simulated_run_has_no_latency_and_says_so() -> None:
    page = markdown.render([simulated_run()])
    assert (
        "**The run is simulated and its latencies are empty (no CUDA driver was found).**" in page
    )
    shown = tables(page)["N1 C2 16x16 float32, forward, simulated"]
    assert not any("ms" in column or "speed" in column for column in shown.columns)
    assert shown["launches observed"].to_list() == ["16", "1"]
    assert shown["traced, bytes"].to_list() == ["98,304", "12,288"]
    assert page.count("Simulated: no latency.") == 2


def test_a_run_without_rows() -> None:
    assert "The run has no rows." in markdown.render([Run(Path("x"), record(), ())])


@pytest.mark.parametrize("name", [HOSTILE, "|", "\\", "\\|", "a\r\nb", "-->", "`" * 3])
def test_hostile_names_are_shown_and_inert(name: str) -> None:
    page = markdown.render([hostile_run(name)])
    tables(page)
    assert "\x1b" not in page
    marker, *lines = page.splitlines()
    assert marker.startswith("<!-- gspn2bench-runs: ")
    assert marker.index("-->") == len(marker) - 3
    code = [line for line in lines if line.startswith("    ")]
    assert len(code) == 1
    assert not any("<" in line for line in lines if line not in code)
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert [len(line.split()[0]) for line in headings] == [1, 2, 3, 3]


def test_hostile_names_create_no_tag() -> None:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tags = [
        set(re.findall(r"<(\w+)", reader.render(markdown.render([run]))))
        for run in (real_run(), hostile_run(HOSTILE))
    ]
    assert tags[0] == tags[1]
    assert not tags[1] & {"img", "a", "em", "script", "s"}
    (body,) = re.findall(
        r"<tbody>(.*?)</tbody>", reader.render(markdown.render([lone(HOSTILE)])), re.S
    )
    assert f"<td>{html.escape(as_seen(HOSTILE))}</td>" in body


def test_escape_leaves_no_active_character() -> None:
    text = markdown.escape(HOSTILE)
    assert unescaped(text) == as_seen(HOSTILE)
    assert not re.search(r"(?<!\\)[`*_\[\]|$#]|[<>]", text)


def test_no_run_and_the_same_run_twice_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        markdown.render([])
    with pytest.raises(UsageError, match="twice"):
        markdown.render([real_run(), real_run()])


def test_command_prints_or_writes_and_replaces_only_its_own(tmp_path: Path) -> None:
    save(real_run(), tmp_path)
    save(simulated_run(), tmp_path)
    results = ["--markdown", "--results", str(tmp_path)]
    printed = invoke("report", "fixture", *results)
    assert printed.stdout == markdown.render([real_run()])
    file = tmp_path / "new" / "report.md"
    for _ in range(2):
        written = invoke("report", "fixture", *results, "-o", str(file))
        assert written.stdout == f"{file}\n"
        assert file.read_text() == printed.stdout
    refused = invoke("report", "quick", *results, "-o", str(file))
    assert "is not a report of quick-" in str(refused.exception)
    assert file.read_text() == printed.stdout


LESSON = Lesson(
    "r03",
    "coalesced",
    "lanes | along <the> axis",
    "../kernels/r03_coalesced.py",
    """r03 coalesced: neighbours touch neighbours.

    Idea: the next ``depth`` lines,
    2**31 of _them_.

    Changes since r02: the <axis>; nothing else.

    Expect: long_scoreboard stalls fall.

    Source: arXiv 2512.07884, section 3.2.
    """,
)


def test_a_rung_is_described_by_its_own_header() -> None:
    page = ladder.render([LESSON], [], "gspn2bench list rungs --markdown")
    for line in (
        "## r03 coalesced",
        "Neighbours touch neighbours. [r03_coalesced.py](../kernels/r03_coalesced.py)",
        r"**Idea:** the next `depth` lines, 2\*\*31 of \_them\_.",
        r"**Changes since r02:** the \<axis>; nothing else.",
        "**Expect:** long_scoreboard stalls fall.",
        "**Source:** arXiv [2512.07884](https://arxiv.org/abs/2512.07884), section 3.2.",
        r"| r03 coalesced | lanes \| along &lt;the&gt; axis |",
        "This page was generated without a run, so it has no figures.",
    ):
        assert line in page.splitlines()


def test_with_a_run_the_ladder_has_its_quoted_figures(tmp_path: Path) -> None:
    save(real_run(), tmp_path)
    done = invoke("list", "rungs", "--markdown", "--run", "fixture", "--results", str(tmp_path))
    assert done.exit_code == 0
    run = real_run().record.run_id
    assert done.stdout.startswith(f"<!-- Made by `gspn2bench list rungs --markdown --run={run}`;")
    assert "generated without a run" not in done.stdout
    by_case = tables(done.stdout)
    shown = by_case["N16 C8 1024x1024 float32, forward, cold L2"]
    assert shown.set_index("rung").loc["r07", ["latency, ms", PUBLISHED]].to_list() == [
        "0.785",
        "1.80",
    ]
    assert set(shown["rung"]) == {"r01", "r02", "r03", "r06", "r07"}
    assert len(shown) == 5  # one timing


def test_with_a_simulated_run_the_ladder_has_no_latency(tmp_path: Path) -> None:
    save(simulated_run(), tmp_path)
    done = invoke("list", "rungs", "--markdown", "--run", "quick", "--results", str(tmp_path))
    figures = done.stdout.partition("## Figures")[2]
    assert "The run is simulated and its latencies are empty" in figures
    assert "latency, ms" not in figures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--markdown"], "gspn2bench list rungs --markdown"),
        (["list", "scenarios", "--markdown"], "gspn2bench list rungs --markdown"),
        (["list", "rungs", "--markdown", "--plain"], "--markdown"),
        (["list", "rungs", "--run", "latest"], "--run: needs --markdown"),
        (["list", "rungs", "--markdown", "--run", "nothing"], "no run"),
    ],
)
def test_bad_words_are_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*arguments)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)
