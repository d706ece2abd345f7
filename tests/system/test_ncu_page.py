"""The raw page of Nsight Compute, which profiles and counters are both read from."""

from pathlib import Path

import pytest

from gspn2bench.system import ncu_page

PAGE = """==PROF== Connected to process 4711
"ID","Kernel Name","dram__bytes_read.sum"
"","","Mbyte"
"0","r07_forward(Array<float, 1>)","1,024.5"
"1","r07_forward(Array<float, 1>)"
==PROF== Disconnected from process 4711
"""


def test_a_page_is_read_between_the_messages_of_ncu() -> None:
    page = ncu_page.parse(PAGE)
    assert page is not None
    assert page.columns == ("ID", "Kernel Name", "dram__bytes_read.sum")
    assert page.units["dram__bytes_read.sum"] == "Mbyte"
    whole, cut = page.kernels
    assert whole["Kernel Name"] == "r07_forward(Array<float, 1>)"
    assert whole["dram__bytes_read.sum"] == "1,024.5"
    assert "dram__bytes_read.sum" not in cut


def test_the_page_of_a_gpu() -> None:
    file = Path(__file__).resolve().parents[1] / "data" / "ncu-raw-page-h200.csv"
    page = ncu_page.parse(file.read_text(encoding="utf-8-sig"))
    assert page is not None
    assert page.kernels
    assert all(set(kernel) == set(page.columns) for kernel in page.kernels)


@pytest.mark.parametrize("text", ["", "==ERROR== none", '"ID","Other"\n"",""\n', PAGE[:70]])
def test_text_without_a_page_is_none(text: str) -> None:
    assert ncu_page.parse(text) is None


def test_cells_are_numbers_with_grouped_thousands() -> None:
    assert ncu_page.whole_number("1,024.5", 1000) == 1_024_500
    for cell in ("n/a", "", "nan", "inf"):
        with pytest.raises(ValueError, match=r"."):
            ncu_page.whole_number(cell)
