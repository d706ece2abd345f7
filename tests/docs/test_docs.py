"""Check the docs against the code: generated pages, named files, columns, commands."""

import re
import shlex
import textwrap
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from gspn2bench.analysis.frame import frame
from gspn2bench.app import app
from gspn2bench.cases import scenario
from gspn2bench.cases.axes import AXES
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.records.schema import Row, RunRecord, Status
from gspn2bench.records.store import read_run

from ..helpers.report_fixtures import real_run

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("re[sp]*s/README.md")])
WRITTEN = {"calibration.md", "traffic.md"}
"""Measured pages written by hand; tests compare their tables with the runs."""
FIG3, TABLE_S4 = "fig3-20261123T171409Z-ff8f2e", "tableS4-20261123T224651Z-23e0ce"
SHOWN = {"own-kernel.md": "my_rung.py", "scenarios.md": "chunks.toml"}
NAMED = re.compile(r"`((?:docs|gspn2bench|kernels|scenarios|tests)/[\w./-]+)`")

page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def unbroken(text: str) -> str:
    """The text without its code blocks, which contain no links."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def sections(name: str) -> dict[str, str]:
    _, *rest = re.split(r"^## ", (DOCS / name).read_text(), flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in rest}


def first_cells(section: str) -> list[str]:
    """The names in backticks in the first cell of each row of a section's table."""
    cells = re.findall(r"^\| (`[^|]*) \|", section, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def commands(file: Path) -> list[str]:
    """The command lines of its code blocks, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    return re.findall(r"^    (?:\$ )?gspn2bench (\w.*)$", text, re.MULTILINE)


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page
def test_every_link_and_every_file_named_exists(page: Path) -> None:
    text = unbroken(page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {link}"
        assert file.resolve().is_relative_to(ROOT), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {link}"
    for name in NAMED.findall(page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@page
def test_every_command_shown_is_valid(page: Path) -> None:
    """Parse the commands with the options of the command line, without running them."""
    root: Any = typer.main.get_command(app)
    for line in commands(page):
        name, *arguments = shlex.split(line, comments=True)
        assert name in root.commands, f"{page.name}: {line}"
        command = root.commands[name]
        if " [-" in line:  # a synopsis
            known = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"(?<=\[)-[\w-]+", line)) <= known, f"{page.name}: {line}"
            continue
        try:
            command.make_context(name, arguments)
        except Exception as error:  # an exception of click, which newer versions of typer vendor
            pytest.fail(f"{page.name}: gspn2bench {line}: {type(error).__name__}: {error}")


@page
def test_every_path_on_a_command_line_exists(page: Path) -> None:
    for line in commands(page):
        for path in re.findall(r"\bdocs/[\w./]+\w", line):
            assert (ROOT / path).exists() or "-o" in line, f"{page.name}: {line}"


def test_the_ladder_is_the_output_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    committed = (DOCS / "ladder.md").read_text()
    match = re.match(r"<!-- Made by `gspn2bench (.+)`;", committed)
    assert match
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, shlex.split(match[1]))
    assert result.exit_code == 0
    assert result.stdout == committed, f"gspn2bench {match[1]} > docs/ladder.md"


@pytest.mark.parametrize(
    "page",
    [page for page in sorted((DOCS / "measured").iterdir()) if page.name not in WRITTEN],
    ids=lambda page: page.stem,
)
def test_a_measured_page_is_the_report_of_its_run(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = re.match(r"<!-- gspn2bench-runs: ([^>]+) -->", page.read_text())
    assert match
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["report", *match[1].split(), "--markdown"])
    assert result.exit_code == 0
    assert result.stdout == page.read_text(), f"gspn2bench report {match[1]} --markdown -o {page}"


def graph_times(run: str, **fields: str) -> dict[str, Any]:
    """The rows of a recorded run in graph time, by rung."""
    rows = frame([read_run(ROOT / "results" / run)])
    for name, value in {"timing": "graph", "phase": "forward", **fields}.items():
        rows = rows[rows[name] == value]
    assert rows["rung"].is_unique
    return {row.rung: row for row in rows.itertuples()}


def readme_section(title: str) -> str:
    return README.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_table_of_the_readme_matches_its_run() -> None:
    measured = graph_times(FIG3, weights="channel")
    table = re.findall(r"^\| (.+) \|$", readme_section("Measured"), flags=re.MULTILINE)
    header, *rows = ([cell.strip() for cell in line.split("|")] for line in table)
    assert len(header) == 5
    assert [row[0][1:4] for row in rows] == sorted(measured)
    for rung, adds, *cells in rows:
        row = measured[rung[1:4]]
        shown = [
            f"{row.latency_ms:#.3g}",
            f"{measured['r01'].latency_ms / row.latency_ms:#.3g}x",
            f"{100 * row.copy_share:.1f} %",
        ]
        assert adds
        assert cells == (shown if row.status == "ok" else ["", "", ""])
    shared = graph_times(FIG3, weights="shared")
    sentence = "With shared weights r06 takes {:#.3g} ms and r07 {:#.3g} ms."
    times = (shared[rung].latency_ms for rung in ("r06", "r07"))
    assert sentence.format(*times) in " ".join(README.read_text().split())


def test_the_modules_of_the_readme_match_their_run() -> None:
    shown = " ".join(readme_section("Measured").split())
    module, block = (graph_times(TABLE_S4, part=part) for part in ("module", "block"))
    attention = {rung: row for rung, row in module.items() if rung.startswith("attention")}
    fastest = min(attention.values(), key=lambda row: row.latency_ms)
    assert fastest.rung == "attention_cudnn"
    ours = [module[rung].latency_ms for rung in ("gspn2", "gspn2_compiled")]
    assert "takes {:#.3g} ms, and {:#.3g} ms through".format(*ours) in shown
    factors = [fastest.latency_ms / ms for ms in ours]
    assert "takes {:#.3g} ms: {:#.3g}x and {:#.3g}x.".format(fastest.latency_ms, *factors) in shown
    ours = [block[rung].latency_ms for rung in ("gspn2", "gspn2_compiled")]
    factors = [block["attention_cudnn"].latency_ms / ms for ms in ours]
    assert "the gain is {:#.3g}x and {:#.3g}x.".format(*factors) in shown


def test_the_readme_fits_one_screen_down_to_use() -> None:
    lines = README.read_text().partition("## Measured")[0].splitlines()
    assert "## Use" in lines
    assert len(lines) <= 55
    assert max(map(len, lines)) <= 100


def test_the_table_of_traffic_matches_its_run() -> None:
    """A line of the table is a case; its cells are load + store sectors per rung."""
    counts: dict[tuple[object, ...], dict[bool, tuple[int | None, ...]]] = {}
    for row in read_run(ROOT / "results" / "quick-20261123T201037Z-f4c7db").rows:
        counted = (row.sectors_load, row.sectors_store, row.requests_load, row.requests_store)
        key = (row.phase, f"{row.height} x {row.width}", row.rung)
        counts.setdefault(key, {})[row.simulated] = counted
    page = (DOCS / "measured" / "traffic.md").read_text()
    table = re.findall(r"^\| (forward|backward) \| (\d+ x \d+) \| (.+) \|$", page, re.MULTILINE)
    assert len(table) * 5 == len(counts) == 60
    for phase, size, cells in table:
        for rung, cell in zip(("r01", "r02", "r03", "r04", "r05"), cells.split(" | "), strict=True):
            by = counts[phase, size, rung]
            assert by[True] == by[False]
            assert cell == "{:,} + {:,}".format(*by[True][:2])


def test_the_ladder_has_the_whole_header_of_every_rung() -> None:
    by_title = sections("ladder.md")
    for rung in LADDER.values():
        section = by_title[f"{rung.id} {rung.title}"]
        assert re.search(rf"\(\.\./kernels/{rung.id}_\w+(\.py)?\)", section)
        for field in ("**Idea:**", "**Expect:**", "**Source:**"):
            assert section.count(field) == 1
    assert sum("**Changes since r" in section for section in by_title.values()) == len(LADDER) - 1


def test_every_column_is_explained() -> None:
    by_title = sections("columns.md")
    assert first_cells(by_title["Rows"]) == list(Row.model_fields)
    derived = [name for name in frame([real_run()]).columns if name not in Row.model_fields]
    assert sorted(first_cells(by_title["Derived"])) == sorted(derived)
    assert first_cells(by_title["The run"]) == list(RunRecord.model_fields)
    assert first_cells(by_title["Status"]) == list(get_args(Status))


def test_every_key_of_a_scenario_is_explained() -> None:
    by_title = sections("scenarios.md")
    keys = [name.strip("[]") for name in first_cells(by_title["The keys"])]
    assert sorted(keys) == sorted(scenario.Scenario.model_fields)
    assert sorted(first_cells(by_title["The fields of a case"])) == sorted(AXES)


@pytest.mark.parametrize(("name", "example"), SHOWN.items())
def test_an_example_is_shown_unchanged(name: str, example: str) -> None:
    text = (DOCS / "examples" / example).read_text()
    shown = textwrap.indent(text, "    ")
    assert shown in (DOCS / name).read_text(), f"docs/{name} shows a different {example}"


def test_the_published_figure_shown_is_in_the_scenario() -> None:
    blocks = re.findall(r"(?:^    .+\n)+", (DOCS / "scenarios.md").read_text(), re.MULTILINE)
    (block,) = (textwrap.dedent(block) for block in blocks if "[[published]]" in block)
    assert block in (ROOT / "scenarios" / "fig3.toml").read_text()


def test_the_architecture_names_every_module() -> None:
    text = (DOCS / "architecture.md").read_text()
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", text)}
    named |= set(re.findall(r"`(\w+)/`", text))
    rungs = re.compile(r"r\d\d[a-z]?_")
    for folder in (ROOT / "gspn2bench", ROOT / "kernels"):
        for path in folder.iterdir():
            is_module = path.suffix == ".py" or (path / "__init__.py").exists()
            if is_module and not path.name.startswith("__") and not rungs.match(path.name):
                assert path.name in named, f"docs/architecture.md does not name {path.name}"


def test_the_architecture_names_the_modules_of_the_packages_it_lists() -> None:
    table = (DOCS / "architecture.md").read_text().partition("### Modules by package")[2]
    rows = re.findall(r"^\| `(\w+)/` \| (.+) \|$", table, flags=re.MULTILINE)
    assert rows
    for package, text in rows:
        folder = ROOT / "gspn2bench" / package
        modules = {file.name for file in folder.glob("*.py")}
        packages = {f"{file.parent.name}/" for file in folder.glob("*/__init__.py")}
        named = set(re.findall(r"`(\w+(?:\.py|/))`", text))
        assert named == (modules | packages) - {"__init__.py"}, package


@page
def test_no_page_shows_a_path_of_a_machine(page: Path) -> None:
    assert not re.search(r"/(home|root|tmp|work|Users)/", page.read_text())
