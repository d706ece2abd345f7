"""Arguments of the modules: sizes, masks, empty batches, and where parameters are created."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gspn2bench.nn import (
    GSPN1Attention,
    GSPN2Attention,
    GSPN2Backbone,
    GSPNBlock,
    SoftmaxAttention,
    gspn2_base,
    gspn2_small,
    gspn2_tiny,
)
from gspn2bench.nn.attention import FOLDED
from gspn2bench.nn.backbone import Config
from gspn2bench.nn.softmax import TorchAttention
from gspn2bench.ops import line_scan, line_scan4

Build = Callable[..., nn.Module]
SMALL = Config(8, (1, 1), proxy=2, mlp_ratio=2)
MIXERS: dict[str, Build] = {
    "gspn1": lambda **options: GSPN1Attention(8, **options),
    "gspn2, folded": lambda **options: GSPN2Attention(8, 2, **options),
    "gspn2": lambda **options: GSPN2Attention(8, FOLDED + 1, **options),
    "softmax": lambda **options: SoftmaxAttention(8, 2, **options),
    "torch": lambda **options: TorchAttention(8, 2, **options),
    "block": lambda **options: GSPNBlock(GSPN2Attention(8, **options), **options),
}
MODULES: dict[str, Build] = MIXERS | {
    "backbone": lambda **options: GSPN2Backbone(SMALL, classes=5, **options),
    "tiny": lambda **options: gspn2_tiny(classes=5, **options),
    "small": lambda **options: gspn2_small(classes=5, **options),
    "base": lambda **options: gspn2_base(classes=5, **options),
}
mixers = pytest.mark.parametrize("name", MIXERS)
modules = pytest.mark.parametrize("name", MODULES)


# H and W of tokens.


@pytest.mark.parametrize("name", ["gspn1", "gspn2", "block"])
def test_tokens_need_a_size_even_if_their_number_is_a_square(name: str) -> None:
    """A plane of 4 x 9 has as many tokens as one of 6 x 6."""
    module = MIXERS[name]()
    with pytest.raises(ValueError, match=r"size: missing.* \(2, 36, 8\).*grid=\(H, W\)"):
        module(torch.zeros(2, 36, 8))
    for size in ((4, 9), [4, 9], torch.Size((4, 9)), tuple(np.array([4, 9]))):
        assert module(torch.zeros(2, 36, 8), size).shape == (2, 36, 8)


@pytest.mark.parametrize("name", ["softmax", "torch"])
def test_attention_needs_no_size(name: str) -> None:
    module, tokens = MIXERS[name](), torch.randn(2, 7, 8)
    assert torch.equal(module(tokens), module(tokens, (7, 1)))
    block = GSPNBlock(SoftmaxAttention(8))
    assert torch.equal(block(tokens), block(tokens, (1, 7)))


@pytest.mark.parametrize("build", [GSPN1Attention, GSPN2Attention])
def test_a_grid_is_the_size_of_tokens_that_come_without(build: Any) -> None:
    torch.manual_seed(0)
    module, tokens = build(8, grid=(4, 9)), torch.randn(2, 36, 8)
    expected = module(tokens, (4, 9))
    assert torch.equal(module(tokens), expected)
    assert not torch.allclose(module(tokens, (6, 6)), expected)
    block = GSPNBlock(module)
    assert torch.equal(block(tokens), block(tokens, (4, 9)))
    assert module(torch.zeros(2, 8, 5, 3)).shape == (2, 8, 5, 3)
    with pytest.raises(ValueError, match="grid: 4 x 9 is 36 tokens, expected 37"):
        module(torch.zeros(2, 37, 8))
    assert "grid=(4, 9)" in repr(module)


def test_a_square_grid_is_of_any_size() -> None:
    module = GSPN2Attention(8, grid="square")
    for side in (3, 6):
        tokens = torch.randn(2, side * side, 8)
        assert torch.equal(module(tokens), module(tokens, (side, side)))
    with pytest.raises(ValueError, match="grid: 5 x 5 is 25 tokens, expected 35"):
        module(torch.zeros(2, 35, 8))


@pytest.mark.parametrize("grid", [4, (4,), (4, -9), "circle", (4.0, 9.0), (True, 4)])
def test_a_bad_grid_is_named(grid: Any) -> None:
    with pytest.raises(ValueError, match=r"^grid: "):
        GSPN2Attention(8, grid=grid)


# Arguments of other attention modules.


@mixers
@pytest.mark.parametrize(
    ("size", "message"),
    [
        (4, "size: 4, expected H and W, two whole numbers"),
        ((-4, -4), r"size: \(-4, -4\), expected H and W of at least 0"),
        ((4, 4, 1), r"size: \(4, 4, 1\), expected H and W, two whole numbers"),
        ((4.0, 4.0), r"size: \(4.0, 4.0\), expected H and W"),
        (torch.ones(16, 16), r"size: a tensor of shape \(16, 16\), .* takes no mask"),
        (torch.ones(2), r"size: a tensor of shape \(2,\), expected H and W"),
        ("44", "size: '44', expected H and W"),
        ((3, 5), "size: 3 x 5 is 15 tokens, expected 16"),
    ],
)
def test_a_bad_size_is_named(name: str, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MIXERS[name]()(torch.zeros(2, 16, 8), size)


@mixers
@pytest.mark.parametrize(
    "options",
    [
        {"attn_mask": torch.ones(16, 16)},
        {"mask": torch.ones(16, 16)},
        {"rope": torch.ones(16, 4)},
        {"need_weights": True},
        {"encoder_hidden_states": torch.ones(2, 3, 8)},
        {"is_causal": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_arguments_are_named(name: str, options: Any) -> None:
    with pytest.raises(TypeError, match=f"takes x and size, not {next(iter(options))}: "):
        MIXERS[name]()(torch.zeros(2, 8, 4, 4), **options)


@mixers
def test_query_key_and_value_are_refused(name: str) -> None:
    """As nn.TransformerEncoderLayer calls its attention."""
    tokens = torch.zeros(2, 16, 8)
    with pytest.raises(ValueError, match="size: a tensor of shape"):
        MIXERS[name]()(tokens, tokens, tokens, need_weights=False)
    with pytest.raises(TypeError, match="not argument 3"):
        MIXERS[name]()(tokens, (4, 4), tokens)


@mixers
def test_other_arguments_without_a_value_are_accepted(name: str) -> None:
    """As a block of timm or diffusers calls attention without a mask."""
    module, image = MIXERS[name](), torch.randn(2, 8, 4, 4)
    result = module(image, attn_mask=None, encoder_hidden_states=None, need_weights=False)
    assert torch.equal(result, module(image))


# Sizes of 0, as in scaled_dot_product_attention.


@mixers
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(0, 8, 4, 5), (2, 8, 0, 5), (2, 8, 4, 0), (0, 8, 0, 0)])
def test_empty_images(name: str, bias: bool, shape: tuple[int, ...]) -> None:
    module = MIXERS[name](bias=bias)
    image = torch.zeros(shape, requires_grad=True)
    output = module(image)
    assert output.shape == shape
    output.sum().backward()
    assert image.grad is not None
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
    tokens = image.detach().flatten(2).mT
    assert module(tokens, shape[2:]).shape == tokens.shape


def test_an_empty_image_with_a_chunk() -> None:
    assert GSPN2Attention(8, chunk=3)(torch.zeros(2, 8, 0, 5)).shape == (2, 8, 0, 5)
    assert GSPN2Attention(8, chunk=3)(torch.zeros(2, 8, 0, 0)).shape == (2, 8, 0, 0)


def test_an_empty_batch_of_a_backbone() -> None:
    model = GSPN2Backbone(SMALL, classes=5)
    scores = model(torch.zeros(0, 3, 17, 9))
    assert scores.shape == (0, 5)
    scores.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


# Where parameters are created.


@modules
def test_device_and_dtype_are_those_of_every_parameter(name: str) -> None:
    module = MODULES[name](device="meta", dtype=torch.bfloat16)
    kinds = {
        (p.device.type, p.dtype) for p in itertools.chain(module.parameters(), module.buffers())
    }
    assert kinds == {("meta", torch.bfloat16)}


@modules
def test_without_bias_there_is_none(name: str) -> None:
    module = MODULES[name](device="meta", bias=False)
    assert not [key for key in module.state_dict() if "bias" in key]


@mixers
def test_a_module_without_bias_trains(name: str) -> None:
    module = MIXERS[name](bias=False, dtype=torch.float64)
    output = module(torch.randn(2, 8, 4, 5, dtype=torch.float64))
    output.square().sum().backward()
    assert output.std() > 0
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_the_arguments_are_shown() -> None:
    shown = repr(GSPNBlock(GSPN2Attention(8, 3, chunk=5, rung="r06"), mlp_ratio=2))
    for text in ("GSPNBlock(\n  8, mlp_ratio=2", "8, proxy=3, grid=None", "chunk=5, rung='r06'"):
        assert text in shown
    assert "8, reduced=4" in repr(GSPN1Attention(8, 4))
    assert "8, heads=2, backend='flash'" in repr(SoftmaxAttention(8, 2, backend="flash"))


# Floating-point operations.


@pytest.mark.parametrize("scans", [1, 4])
def test_flop_counter_mode_counts_scans(scans: int) -> None:
    x = torch.zeros(2, 3, 4, 5, requires_grad=True)
    leading = () if scans == 1 else (4,)
    call: Any = line_scan if scans == 1 else line_scan4
    with FlopCounterMode(display=False) as forward:
        h: Tensor = call(x, torch.zeros(*leading, *x.shape), torch.zeros(*leading, 3, 2, 4, 5))
    assert forward.get_total_flops() == scans * 8 * x.numel()
    with FlopCounterMode(display=False) as backward:
        h.sum().backward()
    assert backward.get_total_flops() == scans * 16 * x.numel()


def test_counting_does_not_change_what_runs() -> None:
    """FlopCounterMode has hooks for all modules; the projections are folded all the same."""
    image, module = torch.zeros(1, 8, 4, 3), GSPN2Attention(8, 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    products = 2 * (12 * 8 * (32 + 8) + 28 * 2 * 8 + 8 * 2 * 8)
    assert counter.get_total_flops() == products + 4 * 8 * 2 * 12
    with FlopCounterMode(display=False) as counter:
        module(image)
    products = 2 * 12 * (8 * 2 + 2 * 28 + 8 * 2 + 2 * 8)  # four products, as for training
    assert counter.get_total_flops() == products + 4 * 8 * 2 * 12
