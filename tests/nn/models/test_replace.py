"""replace_attention: what it replaces, what it refuses, and what it leaves as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gspn2bench.nn import GSPN1Attention, GSPN2Attention, replace_attention
from gspn2bench.nn.models import Replacement, timm_attention

from ...helpers import model_families as tiny

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*enable_nested_tensor"
)


def names(replacement: Replacement) -> list[str]:
    return [swap.name for swap in replacement.swapped]


# What is replaced.


def test_the_table() -> None:
    table = str(replace_attention(tiny.unet(), only="down*"))
    assert table.splitlines() == [
        "1 replaced, 5 stay",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1  Attention  "
        "GSPN2Attention(16, proxy=2), H and W of the input",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2  Attention  "
        "stays: cross-attention: its keys are of a different sequence",
        "up_blocks.0.attentions.0.transformer_blocks.0.attn1    Attention  "
        "stays: not selected by `only`",
        "up_blocks.0.attentions.0.transformer_blocks.0.attn2    Attention  "
        "stays: cross-attention: its keys are of a different sequence",
        "up_blocks.0.attentions.1.transformer_blocks.0.attn1    Attention  "
        "stays: not selected by `only`",
        "up_blocks.0.attentions.1.transformer_blocks.0.attn2    Attention  "
        "stays: cross-attention: its keys are of a different sequence",
    ]
    table = str(replace_attention(tiny.timm_vit()))
    assert "blocks.1.attn  Attention  GSPN2Attention(16, proxy=2), 4 x 6, 3 in front" in table


def test_a_pooling_head_stays() -> None:
    replacement = replace_attention(tiny.hf_siglip())
    assert [(kept.name, kept.reason) for kept in replacement.kept] == [
        ("head", "cross-attention: its queries are of a different sequence")
    ]


def test_a_text_encoder_stays() -> None:
    import transformers

    small: dict[str, Any] = {**tiny.HF}
    patch = small.pop("patch_size")
    text = {**small, "vocab_size": 20, "max_position_embeddings": 8, "projection_size": 16}
    vision = {**small, "patch_size": patch, "image_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    replacement = replace_attention(transformers.SiglipModel(config))
    assert names(replacement) == [
        f"vision_model.encoder.layers.{layer}.self_attn" for layer in (0, 1)
    ]
    reasons = {kept.name: kept.reason for kept in replacement.kept}
    assert reasons["text_model.encoder.layers.0.self_attn"] == "the tokens of a text form no plane"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("blocks.1.attn", [1]),
        ("blocks.?.attn", [0, 1]),
        (["blocks.0.*"], [0]),
        (lambda name, module: module.num_heads == 2 and "1" in name, [1]),
    ],
)
def test_only(only: Any, expected: list[int]) -> None:
    replacement = replace_attention(tiny.timm_vit(), only=only)
    assert names(replacement) == [f"blocks.{block}.attn" for block in expected]
    assert len(replacement.kept) == 2 - len(expected)


def test_proxy_chunk_rung_and_mixer() -> None:
    (swap, _) = replace_attention(tiny.timm_vit(), proxy=3, chunk=2, rung="r04").swapped
    scan: Any = swap.after.mixer.scan
    assert (scan.proxy, scan.scans.chunk, scan.scans.rung) == (3, 2, "r04")
    (swap, _) = replace_attention(tiny.timm_vit(), proxy=lambda channels: channels // 4).swapped
    assert swap.after.mixer.scan.proxy == 4
    model = tiny.timm_vit()
    replacement = replace_attention(model, mixer=lambda channels: GSPN1Attention(channels, 3))
    assert "GSPN1Attention, 4 x 6" in str(replacement)
    model(torch.randn(1, 3, 32, 48)).sum().backward()


def test_type_device_and_mode_are_of_what_is_replaced() -> None:
    model = tiny.timm_vit().to("meta", torch.bfloat16)
    model.blocks[0].train()  # type: ignore[union-attr, operator]
    first, second = replace_attention(model).swapped
    parameters = {(p.device.type, p.dtype) for p in model.parameters()}
    assert parameters == {("meta", torch.bfloat16)}
    assert first.after.mixer.scan.training
    assert not second.after.mixer.scan.training


def test_revert_follows_device_and_mode() -> None:
    model = tiny.timm_vit()
    replacement = replace_attention(model)
    model.to("meta").train()
    replacement.revert()
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert all(module.training for module in model.modules())


def test_twice_and_reverted_in_turn() -> None:
    model, x = tiny.timm_vit(dynamic_img_size=True), torch.randn(1, 3, 32, 48)
    before = model(x)
    first = replace_attention(model, only="blocks.0.*")
    second = replace_attention(model)
    assert names(second) == ["blocks.1.attn"]
    first.revert()
    second.revert()
    assert torch.equal(model(x), before)
    assert not model.patch_embed._forward_hooks  # type: ignore[union-attr]


def test_nothing_global_changes() -> None:
    x = torch.randn(1, 3, 32, 48)
    model, other = tiny.timm_vit(), tiny.timm_vit()
    before = other(x)
    replace_attention(model)
    assert torch.equal(other(x), before)
    assert type(tiny.timm_vit().blocks[0].attn).__name__ == "Attention"  # type: ignore[index]


def test_dropout_of_the_output_is_kept() -> None:
    model = tiny.timm_vit(proj_drop_rate=0.5).train()
    (swap, _) = replace_attention(model).swapped
    swap.after.train()
    assert (swap.after(torch.randn(1, 27, 16)) == 0).float().mean() > 0.3
    swap.after.eval()
    assert (swap.after(torch.randn(1, 27, 16)) == 0).float().mean() < 0.1


def test_modules_of_the_library_in_the_middle_of_a_model() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.other = tiny.timm_vit(), tiny.torchvision_vit()

    replacement = replace_attention(Pair())
    assert names(replacement) == [
        "image.blocks.0.attn",
        "image.blocks.1.attn",
        "other.encoder.layers.encoder_layer_0.self_attention",
        "other.encoder.layers.encoder_layer_1.self_attention",
    ]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("CLIPVisionModel", 1),
        ("DeiTModel", 2),
        ("Dinov2Model", 1),
        ("Dinov2WithRegistersModel", 5),
    ],
)
def test_other_vision_encoders_of_transformers(name: str, prefix: int) -> None:
    import transformers

    cls: Any = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(**tiny.HF, image_size=32)).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x).last_hidden_state
        replacement = replace_attention(model)
        assert {swap.after.mixer.prefix for swap in replacement.swapped} == {prefix}
        assert len(replacement.swapped) == 2
        assert model(x).last_hidden_state.shape == before.shape
        replacement.revert()
        assert torch.equal(model(x).last_hidden_state, before)


# Tokens in front.


@pytest.mark.parametrize("depth", [1, 2])
def test_tokens_in_front_and_patches_read_each_other(depth: int) -> None:
    torch.manual_seed(0)
    model: Any = tiny.timm_vit(depth=depth)
    replace_attention(model)
    mixer = model.blocks[0].attn.mixer
    tokens = torch.randn(1, 27, 16, requires_grad=True)
    mixed = mixer(tokens, (4, 6))
    (of_class,) = torch.autograd.grad(mixed[0, 0].square().sum(), tokens, retain_graph=True)
    (of_patch,) = torch.autograd.grad(mixed[0, 9].square().sum(), tokens)
    for gradient in (of_class, of_patch):
        assert (gradient.abs().amax(2) > 1e-6).all()
    images = torch.randn(2, 3, 32, 48)
    assert not torch.allclose(*model(images), atol=1e-3)


def test_attn_layer_of_timm() -> None:
    layer = timm_attention(grid=(4, 6), prefix=3, proxy=4)
    model: Any = tiny.timm_vit(attn_layer=layer)
    assert model.blocks[1].attn.mixer.scan.proxy == 4
    x = torch.randn(1, 3, 32, 48)
    other: Any = tiny.timm_vit()
    replace_attention(other, proxy=4)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    with pytest.raises(ValueError, match="has no attention to replace"):
        replace_attention(model)


# H and W.


def test_planes_of_the_input() -> None:
    """What the model takes for H and W is what the scans get."""
    seen: list[tuple[int, int]] = []

    class Spy(nn.Module):
        def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
            seen.append(size)
            return tokens

    def spy(channels: int) -> nn.Module:
        return Spy()

    model: Any = tiny.unet()
    replace_attention(model, mixer=spy)
    tiny.call_unet(model, torch.randn(1, 4, 4, 9))
    assert seen == [(4, 9)] * 3
    seen.clear()
    model = tiny.hf_vit(image_size=32)
    replace_attention(model, mixer=spy)
    model(torch.randn(1, 3, 16, 72), interpolate_pos_encoding=True)
    assert seen == [(2, 9)] * 2
    seen.clear()
    model = tiny.timm_vit(dynamic_img_size=True, dynamic_img_pad=True)
    replace_attention(model, mixer=spy)
    model(torch.randn(1, 3, 15, 72))
    assert seen == [(2, 9)] * 2
    seen.clear()
    model = tiny.torch_encoder()
    replace_attention(model, mixer=spy, grid="square", prefix=1)
    model(torch.randn(1, 26, 16))
    assert seen == [(5, 5)] * 2


def test_the_plane_matters() -> None:
    torch.manual_seed(0)
    x, results = torch.randn(1, 24, 16), []
    for grid in ((4, 6), (6, 4)):
        torch.manual_seed(0)
        model = tiny.torch_encoder()
        replace_attention(model, grid=grid)
        results.append(model(x))
    assert not torch.allclose(*results, atol=1e-3)


def test_an_attention_is_not_called_without_its_model() -> None:
    (swap, _) = replace_attention(tiny.timm_vit(dynamic_img_size=True)).swapped
    with pytest.raises(RuntimeError, match="call the model, not its attention"):
        swap.after(torch.randn(1, 27, 16))


def test_gradient_checkpointing() -> None:
    """Blocks are called again in backward; an ambiguous plane is an error, not a guess."""
    gradients = []
    for use in (False, True):
        torch.manual_seed(0)
        model: Any = tiny.timm_vit(dynamic_img_size=True)
        replace_attention(model)
        model.set_grad_checkpointing(use)
        torch.manual_seed(1)
        model(torch.randn(1, 3, 32, 48)).sum().backward()
        gradients.append(model.blocks[0].attn.mixer.scan.down.weight.grad)
    torch.testing.assert_close(*gradients)

    first = model(torch.randn(1, 3, 32, 48))
    model(torch.randn(1, 3, 16, 48))
    first.sum().backward()  # of 24 patches there was one plane
    first = model(torch.randn(1, 3, 32, 48))
    model(torch.randn(1, 3, 48, 32))
    with pytest.raises(RuntimeError, match=r"called with 4 x 6 and 6 x 4"):
        first.sum().backward()


def test_checkpointing_of_a_unet() -> None:
    model: Any = tiny.unet().train()
    replace_attention(model)
    model.enable_gradient_checkpointing()
    tiny.call_unet(model, torch.randn(1, 4, 4, 6)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_compiled_once_per_shape() -> None:
    """Noting the plane does not compile again."""
    torch.manual_seed(0)
    model: Any = tiny.timm_vit(dynamic_img_size=True, depth=1)
    replace_attention(model)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    images = torch.randn(1, 3, 32, 48), torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        for image in images:
            compiled(image)
        with torch.compiler.set_stance("fail_on_recompile"):
            for image in images:
                torch.testing.assert_close(compiled(image), model(image))


def test_compiled_by_inductor() -> None:
    model: Any = tiny.timm_vit(depth=1)
    replace_attention(model)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, fullgraph=True)
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), model(image))


# What is refused.


def refused_calls() -> dict[str, Any]:
    def call_timm(model: Any) -> None:
        model.forward_features(torch.randn(1, 3, 32, 48), attn_mask=torch.ones(27, 27).bool())

    def call_causal(model: Any) -> None:
        model.forward_features(torch.randn(1, 3, 32, 48), is_causal=True)

    def call_weights(model: Any) -> None:
        x = torch.randn(1, 24, 16)
        model.layers[0].self_attn(x, x, x)

    def call_cross(model: Any) -> None:
        x = torch.randn(1, 24, 16)
        model.layers[0].self_attn(x, x.clone(), x.clone(), need_weights=False)

    return {
        "attn_mask": (tiny.timm_vit, call_timm),
        "is_causal": (tiny.timm_vit, call_causal),
        "need_weights": (tiny.torch_encoder, call_weights),
        "key, value": (tiny.torch_encoder, call_cross),
        "attn_mask, is_causal": (
            tiny.torch_encoder,
            lambda m: m(
                torch.randn(1, 24, 16),
                nn.Transformer.generate_square_subsequent_mask(24),
            ),
        ),
        "key_padding_mask": (
            tiny.torch_encoder,
            lambda m: m(
                torch.randn(1, 24, 16),
                src_key_padding_mask=torch.arange(24).view(1, 24) > 20,
            ),
        ),
        "output_attentions": (
            tiny.hf_vit,
            lambda m: m(torch.randn(1, 3, 32, 48), output_attentions=True),
        ),
        "attention_mask": (
            tiny.hf_vit,
            lambda m: m(torch.randn(1, 3, 32, 48), attention_mask=torch.arange(25).view(1, 25) < 9),
        ),
        "attention_mask (diffusers)": (
            tiny.unet,
            lambda m: m(
                torch.randn(1, 4, 4, 6),
                5,
                encoder_hidden_states=torch.randn(1, 3, 8),
                attention_mask=torch.ones(1, 24),
            ),
        ),
        "control": (
            tiny.unet,
            lambda m: m(
                torch.randn(1, 4, 4, 6),
                5,
                encoder_hidden_states=torch.randn(1, 3, 8),
                cross_attention_kwargs={"control": 1},
            ),
        ),
    }


@pytest.mark.parametrize("argument", refused_calls())
def test_unsupported_arguments_are_named(argument: str) -> None:
    build, call = refused_calls()[argument]
    model = build()
    replace_attention(model, grid=(4, 6) if build is tiny.torch_encoder else None)
    named = argument.partition(" (")[0]
    with torch.no_grad(), pytest.raises(TypeError, match=f"^{named}: not supported"):
        call(model)


def test_a_mask_is_refused_in_an_export_too() -> None:
    model: Any = tiny.hf_vit()
    replace_attention(model)
    mask = {"attention_mask": torch.ones(1, 25, dtype=torch.bool)}
    with pytest.raises(TypeError, match="attention_mask: not supported"):
        torch.export.export(model, (torch.randn(1, 3, 32, 48),), mask)


def test_a_mask_that_hides_nothing() -> None:
    """Processors of SigLIP2 always pass one; transformers drops it."""
    model: Any = tiny.hf_siglip2()
    replace_attention(model, grid=(4, 6))
    x, shapes = torch.randn(1, 24, 192), torch.tensor([[4, 6]])
    ones = torch.ones(1, 24, dtype=torch.int64)
    with torch.no_grad():
        expected = model(x, None, shapes).last_hidden_state
        assert torch.equal(model(x, ones, shapes).last_hidden_state, expected)
        with pytest.raises(TypeError, match="attention_mask: not supported"):
            model(x, ones.cumsum(1) < 20, shapes)


def test_training_and_tokens_first_in_torch() -> None:
    model = tiny.torch_encoder(batch_first=False).train()
    replace_attention(model, grid=(4, 6))
    x = torch.randn(24, 3, 16)
    model(x).sum().backward()
    other = tiny.torch_encoder(dropout=0.0)
    model.eval()
    replace_attention(other, grid=(4, 6))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x.transpose(0, 1)).transpose(0, 1), model(x))


@pytest.mark.parametrize("fast", [False, True])
def test_the_fast_path_of_torch(fast: bool) -> None:
    """In eval mode without gradients torch would call a fused kernel with the layer's weights."""
    torch.manual_seed(0)
    model, x = tiny.torch_encoder(), torch.randn(1, 24, 16)
    replacement = replace_attention(model, grid=(4, 6))
    with torch.set_grad_enabled(not fast):
        result = model(x)
    torch.testing.assert_close(result, model(x))
    replacement.revert()
    assert model.use_nested_tensor is True


@pytest.mark.parametrize(
    ("build", "options", "error", "message"),
    [
        (tiny.timm_vit, {"proxy": 0}, ValueError, r"proxy of blocks.0.attn: 0 is below 1"),
        (tiny.timm_vit, {"proxy": 0.5}, TypeError, r"proxy: 0.5 for 16 channels, expected a whole"),
        (tiny.timm_vit, {"proxy": lambda c: c / 8}, TypeError, r"proxy: 2.0 for 16 channels"),
        (tiny.timm_vit, {"proxy": 2, "mixer": GSPN2Attention}, ValueError, "mixer and proxy"),
        (tiny.timm_vit, {"grid": (6, 4)}, ValueError, r"grid: \(6, 4\), but \(4, 6\) in the model"),
        (tiny.timm_vit, {"prefix": 1}, ValueError, r"prefix: 1, but 3 in the model, at blocks.0"),
        (tiny.timm_vit, {"grid": 4}, ValueError, "grid: 4, expected H and W"),
        (tiny.timm_vit, {"only": "block.*"}, ValueError, r"blocks.0.attn: not selected by `only`"),
        (tiny.unet, {"grid": (4, 6)}, ValueError, r"attn1 takes H and W from the model's input"),
        (tiny.torch_encoder, {}, ValueError, r"grid: missing, .* tokens of layers.0.self_attn"),
        (nn.Identity, {}, ValueError, r"model: Identity has no attention to replace$"),
    ],
)
def test_bad_arguments_leave_the_model_as_it_was(
    build: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = build()
    before = [type(module) for module in model.modules()]
    with pytest.raises(error, match=message):
        replace_attention(model, **options)
    assert [type(module) for module in model.modules()] == before


def test_models_that_cannot_be_replaced_say_why() -> None:
    import timm
    from torchvision.models import SwinTransformer

    small: dict[str, Any] = {"embed_dim": 16, "depths": (2,), "num_heads": (2,), "window_size": 4}
    swin = timm.models.SwinTransformer(img_size=32, patch_size=4, **small)
    eva = tiny.timm_eva(use_rot_pos_emb=True)
    for model, reason in (
        (swin, r"layers.0.blocks.0.attn: its tokens are windows, not the whole image"),
        (SwinTransformer([4, 4], 16, [2], [2], [4, 4]), "features.1.0.attn: its tokens are win"),
        (eva, r"blocks.0.attn: rotary position embeddings \(rope\) have no counterpart"),
        (tiny.timm_vit(patch_drop_rate=0.5), r"patches are dropped in training"),
        (nn.MultiheadAttention(16, 2), "has no attention to replace"),
        (
            nn.TransformerDecoderLayer(16, 2),
            "self_attn: its caller is not known to pass one sequence",
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            replace_attention(model)
