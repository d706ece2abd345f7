"""Overrides in a scenario of scans and modules: cases that they do not apply to are left out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gspn2bench.app import app
from gspn2bench.cases import scenario
from gspn2bench.cases.axes import parse_axis
from gspn2bench.cases.selection import Selection, select
from gspn2bench.errors import UsageError

HEAD = 'title = "t"\ndescription = "d"\nsource = "s"\nrungs = ["r07", "gspn2"]\nbase = "r07"\n'
SIZE = "[[case]]\nbatch = 1\nchannels = 2\nsize = 4\n"
MODULES = SIZE + "part = ['module', 'block']\nproxy = 2\n"
SCANS = SIZE + "weights = 'shared'\nchunk = [2, 'none']\n"
MODULE, BLOCK = (f"N1 C2 4x4 float32, {part}, C_proxy 2" for part in ("module", "block"))
CHUNKED, SCAN = ("N1 C2 4x4 float32, shared weights" + end for end in (", chunk 2", ""))


def selected(folder: Path, text: str, *overrides: str) -> Selection:
    file = folder / "mixed.toml"
    file.write_text(HEAD + text)
    return select(scenario.load(str(file)), [parse_axis(token) for token in overrides])


def labels(selection: Selection) -> list[str]:
    return [case.label for case in selection.cases]


@pytest.mark.parametrize(
    ("overrides", "kept", "notes"),
    [
        ([], [MODULE, BLOCK, CHUNKED, SCAN], []),
        (
            ["part=module"],
            [MODULE],
            [
                f"left out: {CHUNKED}, module: chunk applies only to bare scans",
                f"left out: {SCAN}, module: weights applies only to bare scans",
            ],
        ),
        (
            ["part=kernel"],
            [CHUNKED, SCAN],
            ["left out: N1 C2 4x4 float32, C_proxy 2: proxy applies only to modules"],
        ),
        (
            ["chunk=3"],
            ["N1 C2 4x4 float32, shared weights, chunk 3"],
            [
                "left out: N1 C2 4x4 float32, chunk 3, module, C_proxy 2, and 1 more: "
                "chunk applies only to bare scans"
            ],
        ),
        (
            ["proxy=5"],
            ["N1 C2 4x4 float32, module, C_proxy 5", "N1 C2 4x4 float32, block, C_proxy 5"],
            [
                "left out: N1 C2 4x4 float32, shared weights, chunk 2, C_proxy 5, and 1 more: "
                "proxy applies only to modules"
            ],
        ),
        (
            ["phase=train"],
            [MODULE, BLOCK],
            [f"left out: {CHUNKED}, and 1 more: phase: 'train' is not one of forward, backward"],
        ),
        (["batch=1", "phase=forward"], [MODULE, BLOCK, CHUNKED, SCAN], []),
    ],
)
def test_a_case_that_an_override_does_not_apply_to_is_left_out_with_the_reason(
    tmp_path: Path, overrides: list[str], kept: list[str], notes: list[str]
) -> None:
    selection = selected(tmp_path, MODULES + SCANS, *overrides)
    assert labels(selection) == kept
    assert selection.notes == notes


def test_each_value_of_an_override_applies_to_the_cases_that_it_fits(tmp_path: Path) -> None:
    selection = selected(tmp_path, MODULES + SCANS, "phase=[forward,backward,train]")
    assert [(case.part, case.phase) for case in selection.cases] == [
        ("module", "forward"),
        ("module", "train"),
        ("block", "forward"),
        ("block", "train"),
        *[("kernel", "forward"), ("kernel", "backward")] * 2,
    ]
    assert len(selection.left_out) == 4


@pytest.mark.parametrize(
    ("text", "overrides", "complaint"),
    [
        (SCANS, ["phase=train"], "phase: 'train' is not one of forward, backward"),
        (SCANS, ["phase=[forward,train]"], "phase: 'train' is not one of forward, backward"),
        (SCANS, ["proxy=2"], "proxy applies only to modules: set `part` or remove `proxy`"),
        (MODULES, ["chunk=2"], "chunk applies only to bare scans: remove `chunk`, or `part`"),
        (MODULES + SCANS, ["part=module", "weights=shared"], "weights applies only to bare scans"),
        (MODULES + SCANS, ["part=[kernel,module]", "chunk=2"], "chunk applies only to bare scans"),
    ],
)
def test_values_that_apply_to_no_case_are_refused(
    tmp_path: Path, text: str, overrides: list[str], complaint: str
) -> None:
    with pytest.raises(UsageError, match="scenario mixed, case N1 C2 4x4") as caught:
        selected(tmp_path, text, *overrides)
    assert complaint in str(caught.value)


def test_a_fault_of_the_scenario_itself_is_refused_and_not_left_out(tmp_path: Path) -> None:
    wrong = SIZE + "part = 'module'\nweights = 'shared'\n"
    for overrides in ([], ["batch=2"]):
        with pytest.raises(UsageError, match="weights applies only to bare scans: remove"):
            selected(tmp_path, SCANS + wrong, *overrides)


def test_the_shipped_table_runs_as_a_module_alone() -> None:
    selection = select(scenario.load("tableS4"), [parse_axis("part=module")])
    assert labels(selection) == ["N32 C768 64x64 bfloat16, module, C_proxy 2"]
    assert len(selection.left_out) == 1


@pytest.mark.parametrize("command", ["sweep", "profile"])
def test_commands_say_what_is_left_out_unless_they_are_quiet(command: str) -> None:
    arguments = [command, "tableS4", "-a", "part=module", "--rung", "gspn2", "--dry-run"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "left out: N32 C2 64x64 bfloat16, shared weights, logits, 4 directions, module: "
        "weights applies only to bare scans"
    ]
    assert not CliRunner().invoke(app, [*arguments, "--quiet"]).stderr
