"""The distillation example: all of it as a user runs it, and its parts."""

import copy
import re
import resource
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

from gspn2bench.examples import distill
from gspn2bench.examples.images import Images, load
from gspn2bench.nn import replace_attention


@pytest.mark.long
def test_back_to_within_one_percent_in_4_minutes_of_2_cores(tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    module = "gspn2bench.examples.distill"
    process = subprocess.run(
        [sys.executable, "-P", "-m", module, "--plot", str(plot)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2 * 240
    accuracies = [float(value) for value in re.findall(r"(\S+) %$", process.stdout, re.MULTILINE)]
    (teacher, untrained), student = accuracies[:2], accuracies[-1]
    assert teacher >= 97
    assert untrained < 50
    assert student >= teacher - 1
    assert len(accuracies) == 2 + 10 + 40
    losses = re.findall(r"^block by block .* loss (\S+)", process.stdout, re.MULTILINE)
    assert float(losses[-1]) < 0.4 * float(losses[0])
    assert f"GSPN-2: test accuracy {student} %, " in process.stdout
    assert len(ET.parse(plot).getroot().findall("{*}polyline")) == 2 + 1 + 2 + 3


def test_the_loss_of_blocks_is_0_for_equal_models_and_1_for_layers_that_do_nothing() -> None:
    torch.manual_seed(0)
    teacher = distill.Transformer(dim=8, depth=2, heads=2)
    pixels, digits = torch.rand(5, 1, 8, 8), torch.arange(5)
    same = distill.block_by_block(teacher, copy.deepcopy(teacher))(pixels, digits)
    assert same.item() == 0
    student = copy.deepcopy(teacher)
    student.layers = torch.nn.ModuleList([torch.nn.Identity()] * 2)
    idle = distill.block_by_block(teacher, student)(pixels, digits)
    assert idle.item() == pytest.approx(1)


def test_blocks_change_the_new_modules_alone_and_end_to_end_all() -> None:
    torch.manual_seed(0)
    train, test = load()
    images = Images(train.pixels[:128], train.digits[:128]), test
    teacher = distill.Transformer(dim=8, depth=2, heads=2)
    student = copy.deepcopy(teacher)
    replacement = replace_attention(student, grid=(4, 4), prefix=1)
    new = [p for swap in replacement.swapped for p in swap.after.parameters()]
    for parameters, build in (
        (new, distill.block_by_block),
        (list(student.parameters()), distill.end_to_end),
    ):
        before = copy.deepcopy(student.state_dict())
        rows = list(
            distill.distil(student, parameters, build(teacher, student), images, 2, 1e-2, 0)
        )
        assert len(rows) == 2
        changed = {k for k, v in student.state_dict().items() if not torch.equal(v, before[k])}
        ids = {id(p) for p in parameters}
        assert changed == {k for k, p in student.named_parameters() if id(p) in ids}
    assert all(p.grad is None for p in teacher.parameters())


def test_the_plot() -> None:
    row = distill.Epoch(0.5, 0.9)
    root = ET.fromstring(distill.plot(0.98, [row] * 3, [distill.Epoch(0.05, 1.0)] * 2))
    texts = ["".join(node.itertext()) for node in root.findall("{*}text")]
    for text in ("test accuracy, %", "loss", "epoch", "block by block", "softmax attention", "0.1"):
        assert text in texts, text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--epochs", "0"], "--epochs: 0 is below 1"), (["--seed", "-1"], "--seed: -1 is below 0")],
)
def test_bad_options_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        distill.main(arguments)
    assert message in capsys.readouterr().err
