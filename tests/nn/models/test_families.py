"""Each family of models with GSPN-2 in the place of attention: used as the original is used."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gspn2bench.nn import GSPN2Attention, replace_attention
from gspn2bench.nn.models.contract import InPlaceOfAttention

from ...helpers.model_families import FAMILIES, Family

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*enable_nested_tensor"
)
families = pytest.mark.parametrize("name", FAMILIES)


def build(family: Family, **options: Any) -> tuple[nn.Module, Any, Tensor]:
    """A model after replacement, what was replaced, and an input."""
    torch.manual_seed(0)
    model = family.build()
    replacement = replace_attention(model, **{**family.options, **options})
    torch.manual_seed(1)
    return model, replacement, torch.randn(family.shape)


@families
def test_forward_backward_and_revert(name: str) -> None:
    """The result depends on every patch, and every module is trained; revert is bit-identical."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = family.build()
    torch.manual_seed(1)
    x = torch.randn(family.shape)
    with torch.no_grad():
        before = family.call(model, x)
    keys = list(model.state_dict())
    replacement = replace_attention(model, **family.options)
    assert len(replacement.swapped) == family.sites
    scans = [module for module in model.modules() if isinstance(module, GSPN2Attention)]
    assert len(scans) == family.sites

    image = x.clone().requires_grad_()
    output = family.call(model, image)
    assert output.shape == before.shape
    assert not torch.equal(output, before)
    (output * torch.randn_like(output)).sum().backward()
    assert image.grad is not None
    gradient = image.grad.abs()
    if family.patch:
        step = family.patch
        gradient = gradient.unfold(2, step, step).unfold(3, step, step).amax((1, 4, 5))
    else:
        gradient = gradient.amax(2)
    assert (gradient > 0).all(), gradient
    for parameter in scans[0].parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert scans[0].down.weight.grad.abs().max() > 0

    replacement.revert()
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(family.call(model, x), before)
    assert not any(isinstance(module, InPlaceOfAttention) for module in model.modules())
    replacement.revert()


@families
def test_compiled(name: str) -> None:
    family = FAMILIES[name]
    model, _, x = build(family)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(family.call(compiled, x), family.call(model, x))


@families
def test_exported(name: str) -> None:
    family = FAMILIES[name]
    model, _, x = build(family)

    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return family.call(self.model, x)

    with torch.no_grad():
        program = torch.export.export(Call(), (x,)).module()
        torch.testing.assert_close(program(x + 1), family.call(model, x + 1))


@families
def test_state_and_copy(name: str) -> None:
    """A state of a replaced model loads strictly into one replaced alike; a copy is complete."""
    family = FAMILIES[name]
    model, _, x = build(family)
    torch.manual_seed(2)
    other = family.build()
    replace_attention(other, **family.options)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = family.call(model, x)
        assert torch.equal(family.call(other, x), expected)
        assert torch.equal(family.call(copy.deepcopy(model), x), expected)
