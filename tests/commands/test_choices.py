"""The words of options against the modules that take them, and the lists that options take."""

import re
from enum import StrEnum
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from gspn2bench.app import app
from gspn2bench.commands import choices
from gspn2bench.errors import UsageError
from gspn2bench.profile import trace
from gspn2bench.records import schema
from gspn2bench.system import backend
from gspn2bench.traffic import rows


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (choices.Device, backend.Device),
        (choices.L2, schema.L2State),
        (choices.Timing, schema.Timing),
        (choices.Profiler, trace.Tool),
        (choices.TrafficTool, rows.Tool),
    ],
)
def test_an_option_offers_what_its_module_takes(words: type[StrEnum], taken: Any) -> None:
    assert tuple(words) == get_args(taken)


def test_device_time_alone_cannot_be_profiled() -> None:
    assert {*choices.Timing} - {*choices.ProfiledTiming} == {choices.Timing.DEVICE}


def test_words_keep_their_order() -> None:
    assert choices.comma_separated("rung", "r07, mine.py,r01") == ("r07", "mine.py", "r01")
    assert choices.comma_separated("timing", "graph", ["eager", "graph"]) == ("graph",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--timing: '' contains an empty name"),
        ("eager,", "--timing: 'eager,' contains an empty name"),
        ("eager,eager", "--timing: 'eager,eager' contains 'eager' twice"),
        ("wall", "--timing: 'wall' is not one of eager, graph"),
    ],
)
def test_a_list_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choices.comma_separated("timing", text, ["eager", "graph"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep", [*choices.Device, *choices.L2, *choices.Timing]),
        ("profile", [*choices.Profiler, *choices.ProfiledTiming]),
        ("traffic", [*choices.TrafficTool]),
    ],
)
def test_the_help_lists_every_word(command: str, words: list[StrEnum]) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}).output
    listed = {word for group in re.findall(r"[<\[][a-z0-9]+(?:\|[a-z0-9]+)+[>\]]", shown)
              for word in group[1:-1].split("|")}  # fmt: skip
    assert listed == {word.value for word in words}
