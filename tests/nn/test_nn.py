"""The modules: layouts, sizes, what they compute, what they cost, and their parameters' names."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gspn2bench.nn import (
    GSPN1Attention,
    GSPN2Attention,
    GSPN2Backbone,
    GSPNBlock,
    attention,
    count_macs,
    gspn2_base,
    gspn2_small,
    gspn2_tiny,
)
from gspn2bench.nn.backbone import Config
from gspn2bench.ops import line_scan
from gspn2bench.problem import DIRECTIONS

PARAMETERS = ("weight", "bias")
SCANS = ["scans.lam_delta", "scans.u_delta", "scans.weights", "scans.merge"]
SMALL = Config(8, (1, 1, 2), proxy=2, mlp_ratio=2)


def keys(layers: list[str]) -> list[str]:
    return [f"{layer}.{name}" for layer in layers for name in PARAMETERS]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def modules() -> list[Any]:
    return [
        GSPN1Attention(6),
        GSPN2Attention(6, 3),
        GSPN2Attention(6, 3, chunk=2),
        GSPNBlock(GSPN2Attention(6, 2)),
        GSPNBlock(GSPN1Attention(6)),
    ]


@pytest.mark.parametrize("module", modules(), ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (3, 3), (1, 6)])
def test_tokens_and_images_of_any_size_are_one(module: nn.Module, size: tuple[int, int]) -> None:
    image = torch.randn(2, 6, *size)
    tokens = image.flatten(2).mT
    found = module(image)
    assert found.shape == image.shape
    torch.testing.assert_close(module(tokens, size), found.flatten(2).mT)


@pytest.mark.parametrize("module", modules(), ids=lambda module: type(module).__name__)
def test_every_parameter_has_a_gradient(module: nn.Module) -> None:
    module(torch.randn(2, 6, 4, 5)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def reach(module: nn.Module, size: tuple[int, int], position: tuple[int, int]) -> Tensor:
    """Where the output depends on one position of the input."""
    image = torch.randn(1, 6, *size, dtype=torch.float64, requires_grad=True)
    seen = torch.zeros(size, dtype=torch.bool)
    for row in range(size[0]):
        for column in range(size[1]):
            (grad,) = torch.autograd.grad(module(image)[0, :, row, column].sum(), image)
            seen[row, column] = grad[0, :, position[0], position[1]].any()
    return seen


@pytest.mark.parametrize("module", [GSPN1Attention(6), GSPN2Attention(6)])
def test_a_corner_reaches_every_position(module: nn.Module) -> None:
    assert reach(module.double(), (4, 4), (0, 0)).all()


def test_chunks_keep_to_themselves() -> None:
    seen = reach(GSPN2Attention(6, chunk=2).double(), (4, 4), (0, 0))
    assert seen[:2, :2].all()
    assert not seen[2:].any()
    assert not seen[:, 2:].any()


@pytest.mark.parametrize("build", [GSPN1Attention, GSPN2Attention])
def test_a_chunk_longer_than_the_shorter_side_keeps_its_length(build: Any) -> None:
    """On a map of 3 x 9 positions, chunks of 5 divide the scans along the longer side."""
    module = build(6, chunk=5).double()
    seen = reach(module, (3, 9), (0, 0))
    assert seen[0, :5].all()
    assert not seen[:, 5:].any()
    seen = reach(module, (9, 3), (8, 0))
    assert seen[4:, 0].all()
    assert not seen[:4].any()
    image = torch.randn(1, 6, 3, 9, dtype=torch.float64)
    trained = module(image)
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(image), trained)
    whole = build(6).double()
    whole.load_state_dict(module.state_dict())
    assert not torch.allclose(whole(image), trained)


def test_gspn2_is_its_equation() -> None:
    """Written out position by position, for one image of one column, scanned down and up alone."""
    module = GSPN2Attention(6, 2).double()
    scans = module.scans
    image = torch.randn(1, 6, 3, 1, dtype=torch.float64)
    proxy = module.down(image[0, :, :, 0].T)  # (3, 2)
    lam, u = (1 + layer(proxy).view(3, 4, 2) for layer in (scans.lam_delta, scans.u_delta))
    h = torch.zeros(3, 4, 2, dtype=torch.float64)
    for i, direction in enumerate(DIRECTIONS):
        rows = [0, 1, 2] if direction == "down" else [2, 1, 0]
        before = torch.zeros(2, dtype=torch.float64)
        for row in rows:  # a line of one element: all the weight is in the middle
            before = (before if direction in ("down", "up") else 0) + lam[row, i] * proxy[row]
            if direction in ("down", "up"):
                h[row, i] = before
        if direction in ("right", "left"):  # lines of three elements, one step: h = lam x
            h[:, i] = lam[:, i] * proxy
    expected = module.up(scans.merge((u * h).flatten(1)))
    torch.testing.assert_close(module(image)[0, :, :, 0].T, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_each_direction_has_its_own_weights(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planes that a module hands to the scan come from the right outputs of its layers."""
    taken: dict[str, Tensor] = {}

    def spy(x: Tensor, lam: Tensor, w: Tensor, **_: Any) -> Tensor:
        taken.update(x=x, lam=lam, w=w)
        pairs = enumerate(DIRECTIONS)
        made = [line_scan(x, lam[i], w[i], direction=d, logits=True) for i, d in pairs]
        return torch.stack(made)

    monkeypatch.setattr(attention.FourScans, "scan4", staticmethod(spy))
    scans = attention.FourScans(2, 5, shared=shared, chunk=None, rung="r07")
    features = torch.randn(3, 12, 5)
    scans(torch.randn(3, 12, 2), features, (3, 4))
    sets = 1 if shared else 2
    lam = 1 + scans.lam_delta(features).view(3, 3, 4, 4, 2)  # (N, H, W, direction, channel)
    logits = scans.weights(features).view(3, 3, 4, 4, 3, sets)
    for i in range(4):
        torch.testing.assert_close(taken["lam"][i], lam[..., i, :].permute(0, 3, 1, 2))
        own = taken["w"][i].reshape(3, 3, sets, 3, 4)
        torch.testing.assert_close(own, logits[..., i, :, :].permute(3, 0, 4, 1, 2))


# Bad input.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GSPN2Attention(6)(torch.zeros(2, 5, 3, 3)), r"x: shape \(2, 5, 3, 3\), expected"),
        (lambda: GSPN2Attention(6)(torch.zeros(2, 9, 5)), r"\(N, L, 6\)"),
        (lambda: GSPN2Attention(6)(torch.zeros(6, 3)), r"x: shape \(6, 3\), expected an image"),
        (
            lambda: GSPNBlock(GSPN1Attention(6))(torch.zeros(2, 8, 6), (2, 3)),
            r"size: 2 x 3 is 6 tokens, expected 8",
        ),
        (lambda: GSPN1Attention(6)(torch.zeros(1, 6, 2, 3), (3, 2)), r"size: \(3, 2\), expected"),
        (lambda: GSPN2Attention(6, 0), "proxy: 0 is below 1"),
        (lambda: GSPN1Attention(0), "dim: 0 is below 1"),
        (lambda: GSPN2Attention(6, chunk=0), "chunk: 0 is below 1"),
        (lambda: GSPNBlock(GSPN2Attention(6), mlp_ratio=0), "mlp_ratio: 0 is below 1"),
        (lambda: gspn2_tiny(classes=0), "classes: 0 is below 1"),
        (lambda: GSPN2Backbone(SMALL)(torch.zeros(1, 4, 8, 8)), r"images: shape .* \(N, 3, H, W\)"),
        (
            lambda: GSPN2Backbone(SMALL)(torch.zeros(1, 3, 8, 0)),
            r"images: .* H and W of at least 1",
        ),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# A model that was saved must load: these names do not change.


def test_the_parameters_of_the_modules_keep_their_names() -> None:
    gspn1 = keys(["reduce", *SCANS])
    gspn2 = keys(["down", *SCANS, "up"])
    assert list(GSPN1Attention(6).state_dict()) == gspn1
    assert list(GSPN2Attention(6).state_dict()) == gspn2
    assert list(GSPNBlock(GSPN2Attention(6)).state_dict()) == [
        *keys(["norm1"]),
        *(f"attention.{key}" for key in gspn2),
        *keys(["norm2", "mlp.0", "mlp.2"]),
    ]


def test_the_parameters_of_a_backbone_keep_their_names() -> None:
    found = GSPN2Backbone(SMALL).state_dict()
    block = list(GSPNBlock(GSPN2Attention(8)).state_dict())
    blocks = ["stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1"]
    assert list(found) == [
        *keys(["stem.0", "stem.2", "downs.0", "downs.1"]),
        *(f"{at}.{key}" for at in blocks for key in block),
        *keys(["norm", "head"]),
    ]
    assert found["stages.2.1.attention.down.weight"].shape == (2, 32)
    assert found["stages.0.0.attention.scans.weights.weight"].shape == (12, 2)


# The backbones.


@pytest.mark.parametrize(
    ("make", "parameters", "macs"),
    [(gspn2_tiny, 24e6, 4.2e9), (gspn2_small, 50e6, 9.2e9), (gspn2_base, 89e6, 14.2e9)],
)
def test_the_published_sizes(make: Any, parameters: float, macs: float) -> None:
    with torch.device("meta"):
        model = make()
        image = torch.empty(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.05)
    assert count_macs(model, image) == pytest.approx(macs, rel=0.05)
    assert model(image).shape == (1, 1000)


def test_macs_are_counted() -> None:
    tokens, dim, proxy = 12, 6, attention.FOLDED + 1
    linear = tokens * (2 * dim * proxy + 2 * proxy * 4 * proxy + proxy * 12 + 4 * proxy * proxy)
    scanned = 4 * 4 * proxy * tokens
    image = torch.zeros(3, dim, 4, 3)
    assert count_macs(GSPN2Attention(dim, proxy), image) == 3 * (linear + scanned)
    assert count_macs(nn.Conv2d(dim, 5, 3), image) == 3 * 2 * 1 * 5 * 9 * dim


@pytest.mark.parametrize("images", [1, 3])
def test_products_of_weights_are_counted_once_a_call(images: int) -> None:
    """Folded, the tokens meet two matrices; what makes these does not grow with the images."""
    tokens, dim, proxy = 12, 6, 2
    columns = 32  # x, lam, u and logits, 9 C_proxy + 12, are 30; a product has a multiple of 8
    each = tokens * dim * (columns + 4 * proxy) + 4 * 4 * proxy * tokens
    once = (8 * proxy + 12) * proxy * dim + dim * proxy * 4 * proxy
    found = count_macs(GSPN2Attention(dim, proxy), torch.zeros(images, dim, 4, 3))
    assert found == images * each + once


@pytest.mark.parametrize("size", [(33, 50), (8, 8), (1, 1)])
def test_a_backbone_takes_any_size(size: tuple[int, int]) -> None:
    model = GSPN2Backbone(SMALL, classes=7)
    images = torch.randn(2, 3, *size)
    assert model(images).shape == (2, 7)
    for stage, found in enumerate(model.features(images)):
        step = 4 * 2**stage
        expected = (2, 8 * 2**stage, -(-size[0] // step), -(-size[1] // step))
        assert found.shape == expected


def test_a_backbone_compiles_without_a_graph_break_and_runs_in_autocast() -> None:
    torch._dynamo.reset()
    model = GSPN2Backbone(SMALL, classes=7).eval()
    images = torch.randn(2, 3, 24, 20)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        half = model(images)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(images), rtol=0.1, atol=0.1)
