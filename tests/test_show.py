import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from gspn2bench.commands.show import show
from gspn2bench.errors import UsageError
from gspn2bench.report.terminal import screen

from .report_fixtures import HOSTILE, hostile_run, real_run, save, simulated_run


def printed(run, width=80):
    console = Console(width=width, highlight=False, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(screen(run))
    return capture.get()


def plain(run, width=80):
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(screen(run))
    return capture.get()


def test_fits_80_columns_with_nothing_cut():
    for run in (real_run(), simulated_run()):
        lines = plain(run).splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" not in "".join(lines)


def test_verdict_stands_above_the_tables():
    text = plain(real_run(), 200)
    assert text.index("r07 is 15.9 to 41.0 times as fast") < text.index("speed-up")


def test_rows_and_reasons():
    lines = plain(real_run(), 120).splitlines()
    r07 = next(line for line in lines if line.startswith("r07   fwd   device"))
    assert r07.split()[:4] == ["r07", "fwd", "device", "0.770"]
    assert "41.0×" in r07  # noqa: RUF001
    assert "- N16 C8 1024x1024 float32, r06 forward, incorrect: h[3, 0, 1, 2] is nan" in lines
    assert sum("needs 512 columns" in line for line in lines) == 1


def test_simulated_run_shows_no_latency_column():
    text = plain(simulated_run())
    assert "latencies are empty (no CUDA driver was found)." in " ".join(text.split())
    assert " ms" not in text
    assert "simulated" in text
    assert "98.3 kB" in text


def test_markup_and_control_characters_in_names_are_inert():
    name = "[red]x[/red]\x1b]0;title\x07"
    text = printed(hostile_run(name), 300)
    assert "[red]x[/red]" in text
    assert "\x1b]0" not in text
    assert "\x07" not in text
    assert HOSTILE in plain(hostile_run(), 300)


@pytest.fixture
def app():
    made = typer.Typer()
    made.command()(show)
    return made


def test_command(app, tmp_path):
    save(simulated_run(), tmp_path)
    done = CliRunner().invoke(app, ["quick", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert "Correctness: 3 of 3 gates green" in done.stdout
    assert "\x1b" not in done.stdout
    done = CliRunner().invoke(app, ["nothing", "--results", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
