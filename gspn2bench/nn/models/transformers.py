"""Adapters for Hugging Face transformers: vision encoders."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from gspn2bench.nn.check import Size
from gspn2bench.nn.models.contract import InPlaceOfAttention, Kept, Site, is_a, join, refuse
from gspn2bench.nn.models.plane import NoteImage, Plane

HARMLESS: Final = {
    "interpolate_pos_encoding",
    "num_items_in_batch",
    "output_hidden_states",
    "return_dict",
}
"""Keyword arguments of a model that reach its attentions and do not concern them."""


@dataclass(frozen=True)
class Family:
    """A vision encoder.

    Args:
        attention: class of its self-attention.
        prefix: class and distillation tokens; ``config.num_register_tokens`` come in addition.
        image: whether its input is an image, not a list of patches.
        mask: name of the model's mask.
    """

    attention: str
    prefix: int
    image: bool = True
    mask: str = "attention_mask"


VISION: Final = {
    "CLIPVisionModel": Family("CLIPAttention", 1),
    "DeiTModel": Family("DeiTAttention", 2),
    "Dinov2Model": Family("Dinov2Attention", 1),
    "Dinov2WithRegistersModel": Family("Dinov2WithRegistersAttention", 1),
    "Siglip2VisionModel": Family("Siglip2Attention", 0, False, "pixel_attention_mask"),
    "SiglipVisionModel": Family("SiglipAttention", 0),
    "ViTModel": Family("ViTAttention", 1),
}
TEXT: Final = {"CLIPTextModel", "SiglipTextModel", "Siglip2TextModel"}


class TransformersAttention(InPlaceOfAttention):
    """In the place of a self-attention of transformers."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: object
    ) -> tuple[Tensor, None]:
        """Tokens to tokens, (N, L, C), and None for the weights.

        Raises:
            TypeError: there is a mask, or weights are asked for.
        """
        rest = {name: value for name, value in options.items() if name not in HARMLESS}
        if torch.compiler.is_exporting():  # transformers makes a mask, of which nothing is hidden
            attention_mask = None
        refuse(attention_mask=attention_mask, **rest)
        return self.mix(hidden_states), None


class RefuseExportedMask:
    """A forward pre-hook that refuses the caller's mask in an export.

    There transformers replaces None by a mask that hides nothing, so attentions cannot tell.

    Args:
        argument: name of the mask.
        position: of the mask among the arguments of the model.
    """

    def __init__(self, argument: str, position: int) -> None:
        self.argument, self.position = argument, position

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse the mask.

        Raises:
            TypeError: there is one.
        """
        if torch.compiler.is_exporting():
            at = self.position
            mask = args[at] if len(args) > at else kwargs.get(self.argument)
            refuse(**{self.argument: mask})


def find_in_vision_model(model: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The self-attentions of a vision encoder."""
    parts: Any = model
    family = next(family for kind, family in VISION.items() if is_a(model, "transformers", kind))
    config = parts.config
    prefix = family.prefix + (getattr(config, "num_register_tokens", None) or 0)
    plane = Plane() if family.image else None

    def install() -> Callable[[], None]:
        hooks: list[tuple[Any, Any]] = []
        if plane is not None:
            patch = _pair(config.patch_size)
            hooks.append((parts.embeddings, NoteImage(plane, "pixel_values", patch)))
        names = list(inspect.signature(parts.forward).parameters)
        if family.mask in names:
            hooks.append((parts, RefuseExportedMask(family.mask, names.index(family.mask))))
        handles = [part.register_forward_pre_hook(hook, with_kwargs=True) for part, hook in hooks]

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove

    for inner, module in model.named_modules():
        if is_a(module, "transformers", family.attention):
            yield Site(
                join(name, inner),
                module,
                config.hidden_size,
                TransformersAttention,
                prefix=prefix,
                plane=plane,
                install=install,
            )


def find_in_text_model(model: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The attentions of a text encoder, which stay."""
    for inner, module in model.named_modules():
        if type(module).__name__.endswith("Attention"):
            yield Kept(
                join(name, inner), type(module).__name__, "the tokens of a text form no plane"
            )


def _pair(patch: Any) -> Size:
    """Height and width of a patch."""
    height, width = patch if isinstance(patch, (tuple, list)) else (patch, patch)
    return height, width
