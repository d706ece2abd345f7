import json

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from gspn2bench.baselines.modules import MODULES
from gspn2bench.baselines.scans import SCANS
from gspn2bench.cases import scenario
from gspn2bench.commands.list_ import list_
from gspn2bench.kernels.ladder import LADDER


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(list_)
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})


def test_everything_is_listed_within_80_columns() -> None:
    result = run()
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    for name in [*LADDER, *SCANS, *MODULES, *scenario.names()]:
        assert f" {name} " in result.output
    first = next(iter(LADDER.values()))
    assert first.idea.split()[0] in result.output


@pytest.mark.parametrize(
    ("kind", "names"),
    [("rungs", [*LADDER, *SCANS, *MODULES]), ("scenarios", scenario.names())],
)
def test_plain_names_one_a_line(kind: str, names: list[str]) -> None:
    for way in ("--plain", "--quiet"):
        result = run(kind, way)
        assert result.exit_code == 0
        assert result.output.splitlines() == names


def test_json_has_what_the_tables_have() -> None:
    listed = json.loads(run("--json").output)
    assert [one["name"] for one in listed["rungs"]] == [*LADDER]
    assert [one["name"] for one in listed["scenarios"]] == scenario.names()
    first = next(iter(LADDER.values()))
    assert listed["rungs"][0] == {"name": first.id, "title": first.title, "idea": first.idea}
    assert [one["name"] for one in listed["baselines"]] == [*SCANS]
    assert list(json.loads(run("rungs", "--json").output)) == ["rungs", "baselines", "modules"]


def test_unknown_kind() -> None:
    result = run("kernels")
    assert result.exit_code == 2
    assert "kernels" in result.output
