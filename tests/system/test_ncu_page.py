"""The raw page of Nsight Compute, which profiles and counters are both read from."""

from pathlib import Path

import pytest

from gspn2bench.system import ncu_page

REAL = Path(__file__).resolve().parents[1] / "data" / "ncu-raw-page-h200.csv"
PAGE = """==PROF== Connected to process 4711
"ID","Kernel Name","dram__bytes_read.sum"
"","","Mbyte"
"0","r07_forward(Array<float, 1>)","1,024.5"
"1","r07_forward(Array<float, 1>)","3"
==PROF== Disconnected from process 4711
"""


def test_a_page_is_read_between_the_messages_of_ncu() -> None:
    page = ncu_page.parse(PAGE)
    assert page is not None
    assert page.columns == ("ID", "Kernel Name", "dram__bytes_read.sum")
    assert page.units["dram__bytes_read.sum"] == "Mbyte"
    first, second = page.kernels
    assert first["Kernel Name"] == "r07_forward(Array<float, 1>)"
    assert page.whole_number(first, "dram__bytes_read.sum", 10**6) == 1_024_500_000
    assert second["dram__bytes_read.sum"] == "3"


def test_the_page_of_a_gpu() -> None:
    page = ncu_page.parse(ncu_page.decode(REAL.read_bytes()))
    assert page is not None
    assert len(page.kernels) == 5
    assert all(set(kernel) == set(page.columns) for kernel in page.kernels)
    assert page.point


@pytest.mark.parametrize(
    "text", ["", "==ERROR== none", '"ID","Other"\n"",""\n', '"mine, ""\n', PAGE[:76]]
)
def test_text_without_a_page_is_none(text: str) -> None:
    assert ncu_page.parse(text) is None


FORMATS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-16 and CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "a preamble": lambda text: f'epoch 1\n"quoted" output\n"a","b\n{text}'.encode(),
    "an end": lambda text: f"{text}\n\n==WARNING== done\nbye\n".encode(),
    "a line separator in a name": lambda text: text.replace("r07_f", "r07\u2028_f").encode(),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_page_is_the_same_in_every_format(form: str) -> None:
    page = ncu_page.parse(ncu_page.decode(FORMATS[form](PAGE)))
    assert page is not None
    assert [kernel["dram__bytes_read.sum"] for kernel in page.kernels] == ["1,024.5", "3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" + PAGE.encode(), "not a text in UTF-8: invalid start byte at byte 0"),
        (PAGE.encode("utf-16")[:-1], "not a text in UTF-8: truncated data"),
    ],
)
def test_other_encodings_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ncu_page.PageError, match=message):
        ncu_page.decode(content)


UNITS = '"","","Mbyte"\n'
LAST = '"1","r07_forward(Array<float, 1>)","3"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PAGE.replace(UNITS, ""), "no line of units .* --print-units base"),
        (PAGE.replace(',"3"', ""), "line 5: 2 cells below 3 columns: the page is cut off"),
        (PAGE.replace(',"3"', ',"3'), "line 5: .* the page is cut off or damaged"),
        (PAGE.replace(',"3"', ',"3","4"'), "line 5: 4 cells below 3 columns"),
        (PAGE[:70], "line 2: .* the page is cut off"),
        (PAGE + PAGE, "line 8: a second page begins"),
        (PAGE.replace(LAST, LAST + LAST), "kernel 1 follows kernel 1"),
        (PAGE.replace(LAST, LAST.replace('"1"', '"2"')), "kernel 2 follows kernel 0"),
        (PAGE.replace(LAST, LAST.replace('"1"', '"x"')), "numbered '0', 'x', not in order"),
        (PAGE.replace("1,024.5", "1.024,5"), "dram__bytes_read.sum is '1.024,5', a number of"),
        (PAGE.replace("1,024.5", "24,5"), "'24,5', a number of a different locale; .* LC_ALL=C"),
        (PAGE.replace("1,024.5", "1.024.512"), "a different locale"),
        (PAGE.replace("1,024.5", "0,512"), "a different locale"),
        (PAGE.replace("1,024.5", "1024,512"), "a different locale"),
    ],
)
def test_a_page_that_is_cut_joined_or_of_a_different_locale_is_refused(
    text: str, message: str
) -> None:
    with pytest.raises(ncu_page.PageError, match=message):
        ncu_page.parse(text)


def test_cells_are_numbers_with_grouped_thousands() -> None:
    assert ncu_page.whole_number("1,024.5", 1000) == 1_024_500
    assert ncu_page.whole_number("27,752,416") == 27_752_416
    assert ncu_page.whole_number("3,200.000000") == 3200
    assert ncu_page.whole_number("320") == 320
    for cell in ("n/a", "", "nan", "-nan", "inf", "-1", "1e3", "1_024", "1,02", "1,0245", "1 024"):
        for scale in (1, 1000):
            with pytest.raises(ValueError, match="is not a number"):
                ncu_page.whole_number(cell, scale)


@pytest.mark.parametrize("cell", ["778.240", "778.000", "1.5", "0.5", "1,024.5"])
def test_a_unit_that_cannot_be_divided_has_no_fraction(cell: str) -> None:
    """778.240 ns is 778,240 ns in a German page."""
    with pytest.raises(ValueError, match=r"has a fraction, and its unit has none; .* LC_ALL=C"):
        ncu_page.whole_number(cell)


@pytest.mark.parametrize("cell", ["778.240", "1,024", "10,000", "9.000"])
def test_a_number_that_can_be_read_in_two_ways_needs_a_proof(cell: str) -> None:
    """778.240 us is 778 us or 778 ms, and 1,024 ms is 1 s or 1 ms."""
    page = ncu_page.parse(PAGE.replace("1,024.5", cell))
    assert page is not None
    with pytest.raises(ValueError, match=r"1000 times more in some locales; .* LC_ALL=C"):
        page.whole_number(page.kernels[0], "dram__bytes_read.sum", 10**6)
    page = ncu_page.parse(PAGE.replace("1,024.5", cell).replace('"3"', '"3.25"'))
    assert page is not None
    assert page.whole_number(page.kernels[0], "dram__bytes_read.sum", 10**6) == round(
        float(cell.replace(",", "")) * 10**6
    )
