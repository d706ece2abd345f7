"""The torch operators of a call: each launches kernels and costs host time, so none is added."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gspn2bench.nn import GSPN2Attention, attention
from gspn2bench.nn.attention import FOLDED

SCAN = "gspn2bench.scaled_scans"
EXPAND = "gspn2bench.expand"
SCAN_PLANES = "gspn2bench.scan_planes"


class Operators(TorchDispatchMode):
    """Names of the operators that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if (alias is None or alias.is_write) and func is not torch.ops.aten._unsafe_view.default:
            self.names.append(str(func).removesuffix(".default"))
        return func(*args, **(kwargs or {}))


def operators(module: GSPN2Attention, x: Tensor, *size: Any) -> list[str]:
    with Operators() as seen:
        module(x, *size)
    return seen.names


INFERENCE = {
    2: ["aten.mm", SCAN, EXPAND],
    FOLDED: ["aten.mm", SCAN, EXPAND],
    FOLDED + 1: ["aten.addmm", "aten.mm", SCAN, "aten.addmm", "aten.addmm"],
    16: ["aten.addmm", "aten.mm", SCAN, "aten.addmm", "aten.addmm"],
}
"""By C_proxy. Each is one launch on a GPU, if the scan is: 3 or 5 in all."""


@pytest.mark.parametrize("proxy", INFERENCE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", ["tokens", "one image"])
def test_of_inference(proxy: int, bias: bool, shape: str) -> None:
    module = GSPN2Attention(24, proxy, bias=bias).eval()
    tokens, one_image = (torch.randn(3, 20, 24), (4, 5)), (torch.randn(1, 24, 4, 5),)
    arguments: tuple[Any, ...] = tokens if shape == "tokens" else one_image
    expected = INFERENCE[proxy]
    if not bias and proxy > FOLDED:  # lam and u are 1 plus a linear map, and keep that bias
        expected = [*expected[:-2], "aten.mm", "aten.mm"]
    with torch.no_grad():
        module(*arguments)
        assert operators(module, *arguments) == expected


def test_of_many_images_is_one_copy_more() -> None:
    module, images = GSPN2Attention(24, 2).eval(), torch.randn(3, 24, 4, 5)
    with torch.no_grad():
        module(images)
        assert operators(module, images) == ["aten.clone", *INFERENCE[2]]
        channels_last = images.contiguous(memory_format=torch.channels_last)
        assert operators(module, channels_last) == INFERENCE[2]


FORWARD = ["aten.cat", "aten.cat", "aten.add_.Tensor", "aten.addmm", "aten.addmm", SCAN_PLANES]
BACKWARD = [
    *("aten.mm", "aten.sum.dim_IntList", "aten.mm"),  # of up
    *("aten.mm", "aten.sum.dim_IntList", "aten.mm"),  # of merge
    *("aten.new_empty", f"{SCAN_PLANES}_backward"),
    *("aten.mm", "aten.mm.out", "aten.sum.dim_IntList", "aten.mm", "aten.mm"),
]


@pytest.mark.parametrize("proxy", [2, 16])
@pytest.mark.parametrize("bias", [True, False])
def test_of_training(proxy: int, bias: bool) -> None:
    """8 and 13 calls of torch; gradients that nothing needs are not computed."""
    module, tokens = GSPN2Attention(24, proxy, bias=bias), torch.randn(3, 20, 24)
    module(tokens, (4, 5))  # makes constants
    with Operators() as forward:
        output = module(tokens.requires_grad_(), (4, 5))
    with Operators() as backward:
        output.backward(torch.ones_like(output))
    if bias:
        assert forward.names == [*FORWARD, "aten.addmm", "aten.addmm"]
        assert backward.names[1:] == BACKWARD
    else:  # lam and u are 1 plus a linear map, and keep that bias
        products = ["aten.mm", "aten.addmm", SCAN_PLANES, "aten.mm", "aten.mm"]
        assert forward.names == ["aten.cat", *products]
        assert backward.names[1:] == [name for name in BACKWARD if "sum" not in name]


def test_of_frozen_layers() -> None:
    """Of an input alone: no gradient of a weight or bias. Of the last layer: no scan."""
    module, tokens = GSPN2Attention(24, 2).requires_grad_(False), torch.randn(3, 20, 24)
    output = module(tokens.requires_grad_(), (4, 5))
    with Operators() as backward:
        output.backward(torch.ones_like(output))
    scan = ["aten.new_empty", f"{SCAN_PLANES}_backward"]
    assert backward.names[1:] == ["aten.mm", "aten.mm", *scan, "aten.mm.out", "aten.mm"]
    module.up.requires_grad_()
    output = module(tokens.detach(), (4, 5))
    with Operators() as backward:
        output.backward(torch.ones_like(output))
    assert backward.names[1:] == ["aten.mm", "aten.sum.dim_IntList"]


def test_planes_reach_the_scan_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel by channel in memory, without a copy; one product wrote all of them."""
    taken: dict[str, Tensor] = {}

    def spy(x: Tensor, lam: Tensor, w: Tensor, *, u: Tensor, **_: Any) -> Tensor:
        taken.update(x=x, lam=lam, w=w, u=u)
        return u * lam

    for proxy in (2, 16):
        module = GSPN2Attention(24, proxy).eval()
        monkeypatch.setattr(module.scans, "scan4", spy, raising=False)
        with torch.no_grad():
            module(torch.randn(3, 20, 24), (4, 5))
        assert taken["x"].transpose(0, 1).is_contiguous()
        assert taken["lam"].transpose(1, 2).is_contiguous()
        assert taken["u"].transpose(1, 2).is_contiguous()
        assert taken["w"].is_contiguous()
        assert len({tensor.untyped_storage().data_ptr() for tensor in taken.values()}) == 1


def test_few_positions_in_16_bits_are_folded_at_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    module, tokens = GSPN2Attention(24, 16).eval().bfloat16(), torch.randn(3, 20, 24).bfloat16()
    with torch.no_grad():
        module(tokens, (4, 5))
        assert operators(module, tokens, (4, 5)) == INFERENCE[FOLDED]
        folded = module(tokens, (4, 5))
        monkeypatch.setattr(attention, "FEW_POSITIONS", 59)
        assert operators(module, tokens, (4, 5)) == INFERENCE[16]
        torch.testing.assert_close(folded, module(tokens, (4, 5)), rtol=0.1, atol=0.05)
