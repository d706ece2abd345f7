"""docs/models.md: its examples print what it shows, its lists are those of the code."""

import doctest
import inspect
import re
import shlex
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from gspn2bench.nn import replace_attention
from gspn2bench.nn.models.search import ADAPTERS
from gspn2bench.nn.models.transformers import TEXT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_its_examples_print_what_it_shows(capfd: pytest.CaptureFixture[str]) -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.failed == 0, capfd.readouterr().out
    assert result.attempted > 30


def test_its_install_command() -> None:
    """The extra exists, and has every library of the table."""
    (line,) = re.findall(r"^    (pip install .*)$", PAGE.read_text(), re.MULTILINE)
    assert shlex.split(line, comments=True) == ["pip", "install", ".[models]"]
    extra = [need for need in requires("gspn2bench") or () if 'extra == "models"' in need]
    packages = {re.split(r"[<>=]", need)[0] for need in extra}
    assert packages == {package for package, _, _ in ADAPTERS} - {"torch"}


def test_its_table_has_every_model() -> None:
    table = PAGE.read_text().partition("## Models")[2].partition("## Arguments")[0]
    for _, name, _ in ADAPTERS:
        if name not in TEXT:
            assert f"{name}`" in table, name


def test_its_table_has_every_argument() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(list(inspect.signature(replace_attention).parameters)[1:])


def test_it_starts_with_ten_lines() -> None:
    first = PAGE.read_text().partition("## Ten lines")[2].partition("\n## ")[0]
    assert len(re.findall(r"^    >>> ", first, re.MULTILINE)) + 1 <= 11


def test_its_commands_of_examples_are_modules() -> None:
    named = re.findall(r"python -m gspn2bench\.examples\.(\w+)", PAGE.read_text())
    assert sorted(named) == ["distill", "generate"]
    for name in named:
        assert find_spec(f"gspn2bench.examples.{name}")
