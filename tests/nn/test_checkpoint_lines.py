"""Modules that keep h of some lines: gradients are the same, and one line of h in K is saved."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gspn2bench.nn import GSPN1Attention, GSPN2Attention, GSPN2Backbone, GSPNBlock, backbone

SIZE = (9, 7)
BUILDS: dict[str, Callable[..., nn.Module]] = {
    "gspn1": lambda **options: GSPN1Attention(6, **options),
    "gspn2, folded": lambda **options: GSPN2Attention(6, 2, **options),
    "gspn2, chained": lambda **options: GSPN2Attention(6, 9, **options),
    "block": lambda **options: GSPNBlock(GSPN2Attention(6, 3, **options)),
}


def results(build: Callable[..., nn.Module], **options: Any) -> list[Tensor]:
    """The output, and the gradients of the input and of every parameter."""
    torch.manual_seed(0)
    module = build(**options).double()
    tokens = torch.randn(2, SIZE[0] * SIZE[1], 6, dtype=torch.float64, requires_grad=True)
    output = module(tokens, SIZE)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), [tokens, *module.parameters()])
    return [output, *gradients]


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("checkpoint_lines", [1, 4, "auto"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_gradients_are_the_same(
    build: Callable[..., nn.Module], checkpoint_lines: Any, chunk: int | None
) -> None:
    expected = results(build, chunk=chunk)
    found = results(build, chunk=chunk, checkpoint_lines=checkpoint_lines)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_inference_is_the_same() -> None:
    torch.manual_seed(0)
    module = GSPN2Attention(6).eval()
    image = torch.randn(1, 6, *SIZE)
    with torch.no_grad():
        expected = module(image)
        module.scans.checkpoint_lines = 4
        assert torch.equal(module(image), expected)


def test_a_backbone_passes_the_option_on() -> None:
    config = backbone.Config(8, (1, 1))
    model = GSPN2Backbone(config, classes=2, checkpoint_lines=2)
    scans = [stage[0].attention.scans for stage in model.stages]
    assert [own.checkpoint_lines for own in scans] == [2, 2]
    model(torch.randn(1, 3, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_is_shown_and_pickled() -> None:
    module = GSPN2Attention(6, checkpoint_lines="auto")
    assert "rung='auto', checkpoint_lines='auto'" in repr(module)
    assert "checkpoint_lines" not in repr(GSPN2Attention(6))
    assert pickle.loads(pickle.dumps(module)).scans.checkpoint_lines == "auto"
    older = GSPN2Attention(6).scans
    del older.__dict__["checkpoint_lines"]
    assert pickle.loads(pickle.dumps(older)).checkpoint_lines is None


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "all"])
def test_a_wrong_number_of_lines_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="checkpoint_lines: "):
        GSPN2Attention(6, checkpoint_lines=wrong)
