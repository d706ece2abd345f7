"""Tiny models of each library, built from configurations with random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """A model and its call.

    Args:
        build: builds it in eval mode.
        shape: of its image, or of its patches.
        call: its result for such an input.
        options: for ``replace_attention``, without which it cannot know the plane.
        sites: attentions that are replaced.
        patch: pixels of a patch, high and wide; 0: the input is patches.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    call: Callable[[Any, Tensor], Tensor]
    options: dict[str, Any]
    sites: int
    patch: int


def timm_vit(**options: Any) -> nn.Module:
    """4 x 6 patches of 8 pixels, a class token, and two registers."""
    import timm

    small: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    small |= {"img_size": (32, 48), "num_classes": 5, "reg_tokens": 2}
    return timm.create_model("vit_tiny_patch16_224", **{**small, **options}).eval()


def timm_eva(**options: Any) -> nn.Module:
    """4 x 6 patches and a class token."""
    from timm.models.eva import Eva

    small: dict[str, Any] = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 16, "depth": 2}
    small |= {"num_heads": 2, "num_classes": 5}
    return Eva(**{**small, **options}).eval()


def torchvision_vit() -> nn.Module:
    """4 x 4 patches and a class token."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)  # zeros otherwise
    return model.eval()


def torch_encoder(batch_first: bool = True, **options: Any) -> nn.Module:
    """Two layers."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first).eval()


def hf_vit(**options: Any) -> nn.Module:
    """A classifier: 4 x 6 patches of 8 pixels and a class token."""
    import transformers

    config = transformers.ViTConfig(**{**HF, "image_size": (32, 48), "num_labels": 5, **options})
    return transformers.ViTForImageClassification(config).eval()


def hf_siglip() -> nn.Module:
    """4 x 4 patches of 8 pixels, pooled by attention."""
    import transformers

    config = transformers.SiglipVisionConfig(**HF, image_size=32)
    return transformers.SiglipVisionModel(config).eval()


def hf_siglip2() -> nn.Module:
    """Patches of any plane; 24 of them, of 8 pixels."""
    import transformers

    config = transformers.Siglip2VisionConfig(**HF, num_patches=16)
    return transformers.Siglip2VisionModel(config).eval()


HF: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
}


def unet(**options: Any) -> nn.Module:
    """One level with attention to a text, as SDXL's."""
    import diffusers

    small: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16,),
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D",),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 8,
        "use_linear_projection": True,
    }
    return diffusers.UNet2DConditionModel(**{**small, **options}).eval()


def dit(**options: Any) -> nn.Module:
    """4 x 4 patches of 2 latent pixels."""
    import diffusers

    small: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "num_layers": 2,
        "sample_size": 8,
        "norm_num_groups": 8,
        "num_embeds_ada_norm": 10,
    }
    return diffusers.DiTTransformer2DModel(**{**small, **options}).eval()


def pixart() -> nn.Module:
    """Patches of 2 latent pixels, any plane, attention to a text."""
    import diffusers

    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        norm_num_groups=8,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=8,
        use_additional_conditions=False,
    ).eval()


def call_unet(model: Any, x: Tensor) -> Tensor:
    text = torch.linspace(-1, 1, 3 * 8).view(1, 3, 8).expand(len(x), 3, 8)
    output: Tensor = model(x, 5, encoder_hidden_states=text, return_dict=False)[0]
    return output


def call_dit(model: Any, x: Tensor) -> Tensor:
    times, classes = torch.full((len(x),), 5), torch.full((len(x),), 3)
    output: Tensor = model(x, timestep=times, class_labels=classes, return_dict=False)[0]
    return output


def call_pixart(model: Any, x: Tensor) -> Tensor:
    text = torch.linspace(-1, 1, 3 * 8).view(1, 3, 8).expand(len(x), 3, 8)
    times = torch.full((len(x),), 5)
    conditions = {"encoder_hidden_states": text, "added_cond_kwargs": {}}
    output: Tensor = model(x, timestep=times, return_dict=False, **conditions)[0]
    return output


def call_siglip2(model: Any, x: Tensor) -> Tensor:
    shapes = torch.tensor([[4, 6]] * len(x))
    output: Tensor = model(x, None, shapes).pooler_output
    return output


FAMILIES = {
    "timm ViT": Family(timm_vit, (2, 3, 32, 48), lambda m, x: m(x), {}, 2, 8),
    "timm Eva": Family(timm_eva, (2, 3, 32, 48), lambda m, x: m(x), {}, 2, 8),
    "torchvision ViT": Family(torchvision_vit, (2, 3, 32, 32), lambda m, x: m(x), {}, 2, 8),
    "torch": Family(torch_encoder, (2, 24, 16), lambda m, x: m(x), {"grid": (4, 6)}, 2, 0),
    "transformers ViT": Family(hf_vit, (2, 3, 32, 48), lambda m, x: m(x).logits, {}, 2, 8),
    "transformers SigLIP": Family(
        hf_siglip, (2, 3, 32, 32), lambda m, x: m(x).pooler_output, {}, 2, 8
    ),
    "transformers SigLIP2": Family(hf_siglip2, (2, 24, 192), call_siglip2, {"grid": (4, 6)}, 2, 0),
    "diffusers UNet": Family(unet, (2, 4, 4, 6), call_unet, {"proxy": lambda c: c // 8}, 3, 1),
    "diffusers DiT": Family(dit, (2, 4, 8, 8), call_dit, {}, 2, 2),
    "diffusers PixArt": Family(pixart, (2, 4, 8, 12), call_pixart, {}, 2, 2),
}
