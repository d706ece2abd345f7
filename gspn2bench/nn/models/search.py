"""The attentions of a model: those that can be replaced, and those that stay, with the reason."""

from collections.abc import Iterator
from typing import Final

from torch import nn

from gspn2bench.nn.models import diffusers, timm, torch_encoder, torchvision, transformers
from gspn2bench.nn.models.contract import Adapter, InPlaceOfAttention, Kept, Site, is_a
from gspn2bench.nn.softmax import SoftmaxAttention

ADAPTERS: Final[tuple[tuple[str, str, Adapter], ...]] = (
    ("timm", "VisionTransformer", timm.find_in_vision_transformer),
    ("timm", "Eva", timm.find_in_vision_transformer),
    ("torchvision", "VisionTransformer", torchvision.find_in_vision_transformer),
    ("torch", "TransformerEncoderLayer", torch_encoder.find_in_encoder_layer),
    *(
        ("transformers", name, transformers.find_in_vision_model)
        for name in sorted(transformers.VISION)
    ),
    *(
        ("transformers", name, transformers.find_in_text_model)
        for name in sorted(transformers.TEXT)
    ),
    ("diffusers", "Transformer2DModel", diffusers.find_in_transformer),
    ("diffusers", "DiTTransformer2DModel", diffusers.find_in_transformer),
    ("diffusers", "PixArtTransformer2DModel", diffusers.find_in_transformer),
)
"""Package, class and adapter. A subclass counts as its class. Nothing is imported."""

REASONS: Final = (
    ("Window", "its tokens are windows, not the whole image"),
    ("Pool", "cross-attention: its queries are of a different sequence"),
    ("Cross", "cross-attention: its keys are of a different sequence"),
)
"""Reasons by a word in the name of a class without an adapter."""


def find_attentions(model: nn.Module) -> list[Site | Kept]:
    """Every attention of a model once, in the order of the model."""
    found: dict[str, Site | Kept] = {}
    for name, module in model.named_modules():
        for package, kind, adapter in ADAPTERS:
            if is_a(module, package, kind):
                for attention in adapter(module, name):
                    found.setdefault(attention.name, attention)
    for kept in _without_adapter(model, list(found)):
        found[kept.name] = kept
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    return sorted(found.values(), key=lambda attention: order.get(attention.name, len(order)))


def _without_adapter(model: nn.Module, known: list[str]) -> Iterator[Kept]:
    """Modules that look like attention, and that no adapter knows; the outermost of each."""
    inside = list(known)
    for name, module in model.named_modules():
        if isinstance(module, (InPlaceOfAttention, SoftmaxAttention)):
            inside.append(name)
            continue
        kind = type(module).__name__
        if "attention" not in kind.lower() or type(module).__module__.startswith("gspn2bench."):
            continue
        if any(name == other or name.startswith(f"{other}.") for other in inside):
            continue
        if any(other.startswith(f"{name}.") for other in known) or not name:
            continue
        inside.append(name)
        yield Kept(name, kind, _reason(module))


def _reason(module: nn.Module) -> str:
    """The reason why a module without an adapter stays."""
    kind = type(module).__name__
    for word, reason in REASONS:
        if word in kind:
            return reason
    if isinstance(module, nn.MultiheadAttention):
        return "its caller is not known to pass one sequence as query, key and value"
    package = type(module).__module__.partition(".")[0]
    return f"there is no adapter for {kind} of {package}"
