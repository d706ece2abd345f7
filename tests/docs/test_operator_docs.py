"""docs/operator.md: its examples print what it shows, its figures are those of the code."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gspn2bench import nn
from gspn2bench.nn import GSPN1Attention, GSPN2Attention, SoftmaxAttention, backbone
from gspn2bench.ops import line_scan
from gspn2bench.problem import ScanProblem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operator.md"


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in torch.func.jvp
def test_its_examples_print_what_it_shows() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 40


BUILDS = {
    "GSPN2Attention(64, 8)": lambda: GSPN2Attention(64, 8),
    "GSPN2Attention(64, 8, chunk=16)": lambda: GSPN2Attention(64, 8, chunk=16),
    "GSPN1Attention(64)": lambda: GSPN1Attention(64),
    "SoftmaxAttention(64)": lambda: SoftmaxAttention(64),
}


def test_its_table_of_scales() -> None:
    """The output of a module grows with the map; every cell up to 64 x 64 is measured again."""
    rows = re.findall(r"^\| (\d+) x \1 \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(size) for size, _ in rows] == [16, 32, 64, 128, 256, 512]
    assert "| map | " + " | ".join(f"`{name}`" for name in BUILDS) + " |" in PAGE.read_text()
    for size, cells in ((int(size), cells.split(" | ")) for size, cells in rows[:3]):
        for build, cell in zip(BUILDS.values(), cells, strict=True):
            torch.manual_seed(0)
            module, image = build(), torch.randn(1, 64, size, size)
            with torch.no_grad():
                assert float(module(image).std()) == pytest.approx(float(cell), abs=0.011)


def test_its_bound_of_h_is_reached() -> None:
    """Not even weights that sum to 1 bound h; the number of lines does."""
    x = torch.ones(1, 1, 60, 5)
    h = line_scan(x, x, torch.randn(3, 1, 60, 5), logits=True)
    torch.testing.assert_close(h[0, 0], torch.arange(1.0, 61)[:, None].expand(60, 5))


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_its_table_of_backbones(size: str) -> None:
    config = getattr(backbone, size.upper())
    with torch.device("meta"):
        model: Any = getattr(nn, f"gspn2_{size}")()
        macs = nn.count_macs(model, torch.empty(1, 3, 224, 224))
    parameters = sum(p.numel() for p in model.parameters())
    depths = ", ".join(map(str, config.depths))
    row = f"| `gspn2_{size}` | {config.width} | {depths} | {parameters / 1e6:.1f} M "
    (shown,) = [line for line in PAGE.read_text().splitlines() if line.startswith(row)]
    assert f"| {macs / 1e9:.2f} G |" in shown


def test_its_bytes_of_normalization() -> None:
    problem = ScanProblem(16, 8, 1024, 1024, weights="shared")
    weights = 3 * problem.batch * problem.plane * problem.item_bytes
    fused = problem.compulsory_bytes
    shown = re.findall(r"\| (\d\.\d\d) GB \|", PAGE.read_text())
    assert shown == [f"{(fused + 2 * weights) / 1e9:.2f}", f"{fused / 1e9:.2f}"]
    assert f"{2 * weights / 1e9:.2f} GB of this case" in PAGE.read_text()
