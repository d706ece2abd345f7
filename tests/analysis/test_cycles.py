"""Changes of the clock, and changes of the code that a clock does not explain."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gspn2bench.analysis.compare import compare
from gspn2bench.analysis.cycles import judge_rows, kilocycles
from gspn2bench.analysis.significance import THRESHOLD, Verdict
from gspn2bench.commands.compare import compare as command
from gspn2bench.records.schema import Row
from gspn2bench.records.store import Run
from gspn2bench.report.html.versus import against_first
from gspn2bench.report.text import changes_markdown

from ..helpers.report_fixtures import record, row, save

STEADY = tuple(1 + 0.002 * ((7 * i) % 5 - 2) for i in range(25))
BLOCKS = (5, 10, 10)
CLOCKS = (1980.0, 1980.0, 1965.0)


def measured(factor: float = 1.0, clocks: Sequence[float | None] = CLOCKS, **changes: Any) -> Row:
    samples = tuple(factor * ms for ms in STEADY)
    blocks = {"block_samples": BLOCKS, "block_clocks_mhz": tuple(clocks)} if clocks else {}
    facts = {"samples_ms": samples, "latency_ms": statistics.median(samples)}
    return row(**{**facts, "clock_mhz": 1980.0, **blocks, **changes})


def scaled(factor: float) -> tuple[float, ...]:
    return tuple(factor * mhz for mhz in CLOCKS)


@pytest.mark.parametrize(
    ("latency", "clock", "verdict"),
    [
        (1.0, 1.0, Verdict.SAME),
        (1.10, 1 / 1.10, Verdict.CLOCK),
        (0.90, 1 / 0.90, Verdict.CLOCK),
        (1.10, 1.0, Verdict.SLOWER),
        (0.90, 1.0, Verdict.FASTER),
        # the clock explains only a part
        (1.10, 1 / 1.05, Verdict.SLOWER),
        # the clock rose, and the latency too
        (1.10, 1.10, Verdict.SLOWER),
        # no change of the latency needs no explanation
        (1.0, 0.9, Verdict.SAME),
        (1.02, 1 / 1.02, Verdict.AMBIGUOUS),
    ],
)
def test_a_change_that_the_clock_explains_has_its_own_verdict(
    latency: float, clock: float, verdict: Verdict
) -> None:
    change = judge_rows(measured(), measured(latency, scaled(clock)), THRESHOLD)
    assert change.verdict is verdict
    assert change.ratio == pytest.approx(latency)
    assert change.cycles_ratio == pytest.approx(latency * clock)
    assert change.clocks_mhz == pytest.approx((1980.0, 1980.0 * clock))


def test_the_clock_may_change_within_a_row() -> None:
    """Half of the samples are slow at a low clock. No single clock of the row explains them."""
    falling = [1.0] * 15 + [1.25] * 10
    samples = tuple(ms * slow for ms, slow in zip(STEADY, falling, strict=True))
    new = measured(1.0, (1980.0, 1980.0, 1980.0 / 1.25), samples_ms=samples)
    assert kilocycles(new) == pytest.approx([1980.0 * ms for ms in STEADY])


@pytest.mark.parametrize(
    "unknown",
    [
        {"clocks": (), "clock_mhz": None},
        {"clocks": (1980.0, None, 1980.0), "clock_mhz": None},
        {"clocks": (), "clock_mhz": 0.0},
    ],
)
def test_without_a_clock_the_latency_alone_is_judged(unknown: dict[str, Any]) -> None:
    change = judge_rows(measured(), measured(1.1, **unknown), THRESHOLD)
    assert change.verdict is Verdict.SLOWER
    assert (change.clocks_mhz, change.cycles_ratio) == (None, None)


def test_an_older_row_has_one_clock_for_all_samples() -> None:
    older = measured(1.1, (), clock_mhz=1800.0)
    assert kilocycles(older) == pytest.approx([1980.0 * ms for ms in STEADY])
    assert judge_rows(measured(), older, THRESHOLD).verdict is Verdict.CLOCK


def test_a_change_of_the_clock_is_no_regression_and_is_shown(tmp_path: Path) -> None:
    runs = [
        Run(tmp_path, record(run_id=name), rows)
        for name, rows in (
            ("base", (measured(), measured(rung="r03"))),
            ("new", (measured(1.1, scaled(1 / 1.1)), measured(rung="r03"))),
        )
    ]
    result = compare(*runs)
    assert not result.regressed
    assert result.count(Verdict.CLOCK) == 1
    text = "clock 1980 to 1800 MHz, cycles +0.0 %"
    assert f"CLOCK: {text}" in changes_markdown.render(result)
    assert [line.get("why") for line in against_first(runs)[0].rows] == [text, None]

    app = typer.Typer()
    app.command()(command)
    folders = [str(save(run, tmp_path)) for run in runs]
    for options, code in (([], 0), (["--strict"], 4)):
        done = CliRunner().invoke(app, [*folders, *options], env={"COLUMNS": "80"})
        assert done.exit_code == code
        assert text in " ".join(done.stdout.split())
        assert "1 SAME, 1 CLOCK." in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
