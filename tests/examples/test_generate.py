"""The example that draws digits: all of it as a user runs it, and its parts."""

import copy
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gspn2bench.examples import generate
from gspn2bench.examples.chart import sheet
from gspn2bench.examples.images import Images, load


@pytest.mark.long
def test_nine_of_ten_digits_are_recognized_in_5_minutes_of_2_cores(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process = subprocess.run(
        [sys.executable, "-P", "-m", "gspn2bench.examples.generate", "--sheet", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2 * 300
    shares = dict(re.findall(r"^(.+): (\S+) % of 200 generated", process.stdout, re.MULTILINE))
    assert shares.keys() == {"GSPN-2", "softmax attention"}
    assert float(shares["GSPN-2"]) >= 90
    assert float(shares["softmax attention"]) >= 90
    for name in shares:
        losses = re.findall(rf"^{name} .* loss (\S+)", process.stdout, re.MULTILINE)
        assert len(losses) == 30
        assert float(losses[-1]) < 0.6 * float(losses[0])
    with pytest.importorskip("PIL.Image").open(file) as image:
        assert image.size == (21 * 10 * 4, 8 * 10 * 4)
        assert image.mode == "L"


@pytest.mark.parametrize("name", generate.ATTENTIONS)
def test_what_is_drawn_depends_on_digit_and_seed(name: str) -> None:
    torch.manual_seed(0)
    model = generate.Velocity(generate.ATTENTIONS[name], dim=16, depth=1)
    drawn = [
        generate.generate(model, torch.tensor([digit]), seed)
        for digit, seed in ((3, 0), (3, 0), (4, 0), (3, 1))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert all(not torch.equal(drawn[0], other) for other in drawn[2:])
    assert all(images.min() >= 0 and images.max() <= 1 for images in drawn)


def test_the_mean_follows_the_model() -> None:
    torch.manual_seed(0)
    images, _ = load()
    few = Images(images.pixels[:192], images.digits[:192])
    model = generate.Velocity(generate.ATTENTIONS["GSPN-2"], dim=16, depth=1)
    mean, start = copy.deepcopy(model), copy.deepcopy(model)
    losses = list(generate.train(model, mean, few, epochs=3, seed=0))
    assert losses[-1] < losses[0]

    def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
        return sum(
            (p - q).square().sum().item()
            for p, q in zip(a.parameters(), b.parameters(), strict=True)
        )

    assert 0 < distance(mean, model) < distance(start, model)


def test_pixels_of_a_sheet(tmp_path: Path) -> None:
    images = torch.stack([torch.full((1, 2, 3), shade) for shade in (0.0, 1.0)])
    (tmp_path / "sheet.png").write_bytes(sheet(images, 2, scale=1, gap=1))
    with pytest.importorskip("PIL.Image").open(tmp_path / "sheet.png") as image:
        rows = [[image.getpixel((x, y)) for x in range(8)] for y in range(3)]
    line = [0, 0, 0, 128, 255, 255, 255, 128]
    assert rows == [line, line, [128] * 8]
