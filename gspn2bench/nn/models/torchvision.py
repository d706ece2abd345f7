"""Adapter for torchvision: VisionTransformer."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from gspn2bench.nn.models.contract import Kept, Site, is_a, join
from gspn2bench.nn.models.plane import Plane
from gspn2bench.nn.models.torch_encoder import of_multihead_attention


def find_in_vision_transformer(model: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The attentions in the layers of a ``VisionTransformer``: a class token and a square."""
    parts: Any = model
    side = parts.image_size // parts.patch_size
    plane = Plane((side, side))
    for inner, module in parts.encoder.named_modules():
        if is_a(module, "torchvision", "EncoderBlock"):
            full = join(name, f"encoder.{inner}.self_attention")
            yield of_multihead_attention(full, module.self_attention, prefix=1, plane=plane)
