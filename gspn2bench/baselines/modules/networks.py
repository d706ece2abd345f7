"""Whole networks with one attention or another: SDXL's UNet, and SigLIP2-Base's encoder.

Weights are random: nothing is downloaded. The libraries are imported when a network is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from gspn2bench.cases.scenario import Case
from gspn2bench.nn import replace_attention
from gspn2bench.nn.check import Size
from gspn2bench.problem import Part

Attention = Literal["softmax", "gspn2", "identity"]
"""softmax: that of the library, by torch's scaled_dot_product_attention. identity: none, the input
is passed on; nothing that replaces self-attention can gain more."""

SDXL: Final[dict[str, Any]] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
"""Configuration of the UNet of stabilityai/stable-diffusion-xl-base-1.0."""
SIGLIP2_BASE: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
    "vision_use_head": False,
}
"""Configuration of the vision encoder of google/siglip2-base-patch16-256, without its head."""
TEXT_TOKENS: Final = 77
POOLED_CHANNELS: Final = 1280
MAX_OPERATIONS: Final = 2 * 10**16
"""Most operations of softmax attention per call: about a minute on an H100."""


class PassOn(nn.Module):
    """A mixer that returns its input."""

    def forward(self, tokens: Tensor, size: Size) -> Tensor:  # noqa: ARG002
        """The tokens."""
        return tokens


@dataclass(frozen=True)
class Network:
    """A network that sweeps run.

    Args:
        package: library that has it.
        channels: of its input.
        multiple: of which its height and width must be multiples.
        small: height and width at which the gate compares it with float64.
        proxy: C_proxy of an attention, by its channels, of a case that does not set one.
        build: builds it with softmax attention, for a case.
        call: its output for an input, (N, C, H, W). The last argument is true at the small size.
        output_shape: of the output, by the input's.
    """

    package: str
    channels: int
    multiple: int
    small: int
    proxy: Callable[[int], int]
    build: Callable[[Case], nn.Module]
    call: Callable[[Any, Tensor, bool], Tensor]
    output_shape: Callable[[tuple[int, ...]], tuple[int, ...]]


def _build_unet(case: Case) -> nn.Module:  # noqa: ARG001
    diffusers: Any = import_module("diffusers")
    unet: nn.Module = diffusers.UNet2DConditionModel(**SDXL).to(memory_format=torch.channels_last)
    return unet


def _call_unet(unet: Any, latents: Tensor, small: bool) -> Tensor:  # noqa: ARG001
    """One denoising step. The conditions are constant: their values do not change the work."""
    batch = len(latents)
    new = latents.new_zeros
    conditions: dict[str, Any] = {
        "encoder_hidden_states": new(batch, TEXT_TOKENS, SDXL["cross_attention_dim"]) + 0.5
    }
    if "addition_embed_type" in SDXL:
        conditions["added_cond_kwargs"] = {
            "text_embeds": new(batch, POOLED_CHANNELS) + 0.5,
            "time_ids": new(batch, 6),
        }
    output: Tensor = unet(latents, new(batch) + 500, return_dict=False, **conditions)[0]
    return output


def _build_encoder(case: Case) -> nn.Module:
    transformers: Any = import_module("transformers")
    config = transformers.SiglipVisionConfig(**SIGLIP2_BASE, image_size=case.height)
    encoder: nn.Module = transformers.SiglipVisionModel(config)
    return encoder


def _call_encoder(encoder: Any, images: Tensor, small: bool) -> Tensor:
    output: Tensor = encoder(images, interpolate_pos_encoding=small).last_hidden_state
    return output


def _shape_of_tokens(shape: tuple[int, ...]) -> tuple[int, ...]:
    batch, _, height, width = shape
    patch = SIGLIP2_BASE["patch_size"]
    return batch, (height // patch) * (width // patch), SIGLIP2_BASE["hidden_size"]


NETWORKS: Final[dict[Part, Network]] = {
    "unet": Network(
        "diffusers", 4, 4, 32, lambda c: c // 8, _build_unet, _call_unet, lambda shape: shape
    ),
    "encoder": Network(
        "transformers", 3, 16, 64, lambda _: 2, _build_encoder, _call_encoder, _shape_of_tokens
    ),
}


def build(attention: Attention) -> dict[Part, Callable[[Case], nn.Module]]:
    """By part, the function that builds a network with this attention."""
    return {
        part: lambda case, network=network: _build(network, attention, case)  # type: ignore[misc]
        for part, network in NETWORKS.items()
    }


def _build(network: Network, attention: Attention, case: Case) -> nn.Module:
    """A network with an attention."""
    model = network.build(case)
    if attention == "gspn2":
        replace_attention(model, proxy=case.proxy or network.proxy)
    elif attention == "identity":
        replace_attention(model, mixer=lambda _: PassOn())
    return model


def unsupported_reason(attention: Attention, case: Case) -> str | None:
    """Why a network with this attention can't run a case; None if it can, or for other parts."""
    network = NETWORKS.get(case.part)
    if network is None:
        return None
    if find_spec(network.package) is None:
        return f"{network.package} is missing: pip install '.[models]'"
    if case.channels != network.channels:
        return f"channels: {case.channels}, expected {network.channels} for part {case.part}"
    if case.height % network.multiple or case.width % network.multiple:
        multiple = network.multiple
        return f"size: {case.height} x {case.width}, expected multiples of {multiple}"
    if case.part == "encoder" and case.height != case.width:
        return f"size: {case.height} x {case.width}, expected a square for part encoder"
    return _too_long(case) if attention == "softmax" else None


def _too_long(case: Case) -> str | None:
    """Why a network with softmax attention is skipped; None if it runs."""
    operations = softmax_operations(case)
    if operations > MAX_OPERATIONS:
        return f"attention: {operations:.1e} operations per call, above {MAX_OPERATIONS:.0e}"
    return None


def softmax_operations(case: Case) -> int:
    """Operations of the products of all self-attentions in a forward call."""
    pixels = case.height * case.width
    if case.part == "encoder":
        levels = [
            (
                pixels // SIGLIP2_BASE["patch_size"] ** 2,
                SIGLIP2_BASE["hidden_size"],
                SIGLIP2_BASE["num_hidden_layers"],
            )
        ]
    else:
        levels = [
            (pixels // 4**depth, channels, count)
            for (depth, channels), count in zip(
                enumerate(SDXL["block_out_channels"]), _attentions_of_levels(), strict=True
            )
        ]
    return sum(4 * case.batch * tokens**2 * channels * n for tokens, channels, n in levels)


def _attentions_of_levels() -> list[int]:
    """Self-attentions of each level of the UNet, those of its middle at the lowest."""
    layers, last = SDXL["layers_per_block"], len(SDXL["down_block_types"]) - 1
    counts = []
    for level, each in enumerate(SDXL["transformer_layers_per_block"]):
        down = layers * ("Attn" in SDXL["down_block_types"][level])
        up = (layers + 1) * ("Attn" in SDXL["up_block_types"][last - level])
        counts.append(each * (down + up + (level == last)))
    return counts


@cache
def parameters(part: Part, attention: Attention, side: int, proxy: int | None) -> int:
    """Number of parameters of a network, for an input of side x side."""
    channels = NETWORKS[part].channels
    with torch.device("meta"):
        model = build(attention)[part](Case(1, channels, side, side, part=part, proxy=proxy))
    return sum(parameter.numel() for parameter in model.parameters())
