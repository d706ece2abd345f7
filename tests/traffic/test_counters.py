"""Counters read from ncu's output, and the reasons when they are unavailable."""

import re
from pathlib import Path

import pytest

from gspn2bench.traffic import counters
from gspn2bench.traffic.counters import METRICS, Counters, ProgramError, UnavailableError

from ..helpers.pretended_ncu import ONE, fake_ncu, in_ranges, raw_page


def test_the_launches_of_a_range_are_summed() -> None:
    (result,) = counters.read(raw_page(ONE, ONE, ("0", "32", "1", "1", "4", "4", "4", "4")))
    assert result == Counters(
        launches=3,
        dram_read_bytes=2048,
        dram_write_bytes=1056,
        l2_read_sectors=84,
        l2_write_sectors=64,
        load_sectors=6404,
        store_sectors=644,
        load_requests=41,
        store_requests=21,
    )


def test_the_kernels_of_several_trials_are_separated_by_their_ranges() -> None:
    page = in_ranges(raw_page(ONE, ONE, ("0", *ONE[1:])), 2, 0, 2)
    first, second, third = counters.read(page, trials=3)
    assert first is not None
    assert third is not None
    assert second is None
    assert (first.launches, third.launches) == (1, 2)
    assert (first.dram_read_bytes, third.dram_read_bytes) == (1024, 1024)
    assert third.load_sectors == 6400


def test_a_counter_that_is_not_a_number_is_a_program_error() -> None:
    with pytest.raises(ProgramError, match=r"'n/a' for dram__bytes_read\.sum"):
        counters.read(in_ranges(raw_page(ONE, ("n/a", *ONE[1:])), 0, 1), trials=2)


@pytest.mark.parametrize("trials", [(0, None), (0, 7)])
def test_a_kernel_outside_the_ranges_of_several_trials_is_an_error(
    trials: tuple[int | None],
) -> None:
    page = in_ranges(raw_page(ONE, ONE), *trials)
    with pytest.raises(ProgramError, match="does not report which kernel"):
        counters.read(page, trials=2)
    (result,) = counters.read(page)  # with one trial all kernels belong to it
    assert result is not None
    assert result.launches == 2


def test_units_are_converted() -> None:
    page = raw_page(("1.5", *ONE[1:]), units={METRICS["dram_read_bytes"]: "Mbyte"})
    (result,) = counters.read(page)
    assert result is not None
    assert result.dram_read_bytes == 1_500_000


@pytest.mark.parametrize(
    ("text", "output", "code", "words"),
    [
        ("", "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", 1, "SYS_ADMIN"),
        ("==ERROR== ERR_NVGPUCTRPERM", "", 0, "NVreg_RestrictProfilingToAdminUsers"),
        ("", "", 0, "found no kernel"),
        ("==WARNING== No kernels were profiled.\n", "", 0, "found no kernel"),
        (raw_page(), "", 0, "found no kernel"),
        ("", "Traceback\nValueError: bad\n", 1, "exit code 1: ValueError: bad"),
        ("", "", -9, "exit code -9: no message"),
        (
            "==ERROR== Option --page is not allowed.\nUse --help for further details.\n",
            "==PROF== Connected\n",
            1,
            "exit code 1: ==ERROR== Option --page is not allowed.; ==PROF== Connected",
        ),
        (raw_page(("nan", *ONE[1:])), "", 0, "'nan' for dram__bytes_read.sum"),
        (raw_page(ONE, units={METRICS["load_sectors"]: "furlong"}), "", 0, "'furlong'"),
        (raw_page(ONE).replace("dram__bytes_read.sum", "other"), "", 0, "no dram__bytes_read.sum"),
        (raw_page(ONE).replace("lts__t_sectors_op_read", "other"), "", 0, "no lts__t_sectors_op_"),
        (raw_page(ONE[:3]), "", 0, "10 cells below 15 columns: the page is cut off"),
        (raw_page(("1.024", *ONE[1:])), "", 0, "'1.024' for dram__bytes_read.sum: .* a fraction"),
        (raw_page(("n/a", *ONE[1:])), "", 0, "'n/a' for dram__bytes_read.sum"),
        (raw_page(("1_024", *ONE[1:])), "", 0, "'1_024' for dram__bytes_read.sum"),
    ],
)
def test_unavailable_counters_have_a_reason(text: str, output: str, code: int, words: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        counters.read(text, output, code)
    assert re.search(words.replace("--", "[-]-"), str(caught.value))


def test_the_command_line() -> None:
    line = counters.command(Path("/opt/ncu"), "all", Path("log.csv"), ["python", "x.py"])
    assert line[0] == "/opt/ncu"
    assert line[-2:] == ["python", "x.py"]
    options = " ".join(line[1:-2])
    for words in (
        "--csv",
        "--page raw",
        "--nvtx --",
        "--nvtx-include gspn2bench@measure/",
        "--clock-control none",
        "--cache-control all",
        "--log-file log.csv",
        "dram__bytes_read.sum,dram__bytes_write.sum,lts__t_sectors_op_read.sum",
    ):
        assert words in options


def test_ncu_that_cannot_be_run_or_fails_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="can't be run: No such file"):
        counters.measure(tmp_path / "none", "none", [])
    with pytest.raises(UnavailableError, match="exit code 3"):
        counters.measure(fake_ncu(tmp_path, "", 3), "none", [])
