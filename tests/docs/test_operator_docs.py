"""docs/operator.md: its examples give what it shows, its figures are those of the code."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gspn2bench import nn
from gspn2bench.nn import backbone
from gspn2bench.problem import ScanProblem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operator.md"


def test_its_examples_give_what_it_shows() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.failed == 0
    assert found.attempted > 20


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
