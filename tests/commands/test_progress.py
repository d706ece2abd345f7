"""A series of trials as its user and a script see it, however it ends."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from gspn2bench.commands.progress import Ended, RungDisplay, conclude, follow
from gspn2bench.records.schema import Row

from ..helpers.report_fixtures import row

OK = row()
SKIPPED = row(rung="r06", status="skipped", reason="weights: channel")
BAD = row(rung="r07", status="incorrect", reason="h[0] is nan")
RUN = Path("results/fixture-1")


def ended(capsys: pytest.CaptureFixture[str], how: Ended, **options: bool) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = 0
    try:
        conclude(
            how,
            RUN,
            [row.reason or "" for row in how.rows if row.status == "incorrect"],
            resume="gspn2bench go on",
            hint="report: gspn2bench report",
            **{"quiet": False, "as_json": False} | options,
        )
    except typer.Exit as end:
        code = end.exit_code
    out, err = capsys.readouterr()
    return code, out, err


def test_every_trial_is_done_and_the_series_is_finished(capsys: pytest.CaptureFixture[str]) -> None:
    finished = []

    def steps() -> Iterator[list[Row]]:
        yield [OK, BAD]
        yield [SKIPPED]
        finished.append(True)

    assert follow(steps(), ["one", "two"], quiet=True) == Ended([OK, BAD, SKIPPED])
    assert finished == [True]
    assert capsys.readouterr() == ("", "")
    follow(steps(), ["one", "two"], quiet=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err


def test_the_bar_shows_the_running_rung(capsys: pytest.CaptureFixture[str]) -> None:
    display = RungDisplay()
    display("r99")  # before there is a bar

    def steps() -> Iterator[list[Row]]:
        display("r07")
        yield [OK]
        display("r05")
        raise KeyboardInterrupt

    follow(steps(), ["one", "two"], quiet=False, display=display)
    shown = capsys.readouterr().err.splitlines()[-1]  # as it was left
    assert "two" in shown
    assert "r05" in shown
    assert "r07" not in shown


@pytest.mark.parametrize(
    ("raised", "code", "why"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left"), 3, "the run can't be written: No space left"),
    ],
)
def test_what_ends_a_series_early(raised: BaseException, code: int, why: str) -> None:
    def steps() -> Iterator[list[Row]]:
        yield [OK]
        raise raised

    assert follow(steps(), ["one", "two"], quiet=True) == Ended([OK], code, why)


@pytest.mark.parametrize(
    ("rows", "code"),
    [([OK], 0), ([OK, SKIPPED], 0), ([SKIPPED], 3), ([], 3), ([OK, BAD], 3), ([BAD], 3)],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], rows: list[Row], code: int) -> None:
    found, out, err = ended(capsys, Ended(rows))
    assert found == code
    assert out == f"{RUN}\n"
    assert "gspn2bench report" in err
    _, out, _ = ended(capsys, Ended(rows), as_json=True)
    assert json.loads(out) == {
        "run": "fixture-1",
        "path": str(RUN),
        "counts": {row.status: 1 for row in rows},
        "exit_code": code,
    }


def test_an_interrupted_series_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    how = Ended([OK], 130, "interrupted")
    for quiet in (False, True):
        code, out, err = ended(capsys, how, quiet=quiet)
        assert (code, out) == (130, f"{RUN}\n")
        assert "interrupted; finished rows are kept; resume: gspn2bench go on" in err
        assert "report" not in err
    code, out, _ = ended(capsys, how, as_json=True)
    assert json.loads(out)["exit_code"] == code == 130


def test_quiet_is_silent_only_where_all_went_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, Ended([OK, SKIPPED]), quiet=True) == (0, f"{RUN}\n", "")
    assert ended(capsys, Ended([OK, BAD]), quiet=True) == (3, f"{RUN}\n", "h[0] is nan\n")
