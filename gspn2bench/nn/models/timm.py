"""Adapters for timm: VisionTransformer and its subclasses, and Eva without rotary embeddings."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gspn2bench.nn.attention import GSPN2Attention
from gspn2bench.nn.layout import Grid, check_grid
from gspn2bench.nn.models.contract import (
    InPlaceOfAttention,
    Kept,
    Options,
    Site,
    is_a,
    join,
    refuse,
)
from gspn2bench.nn.models.plane import NotePatches, Plane
from gspn2bench.nn.models.tokens import PrefixedScan

ATTENTIONS = ("Attention", "DiffAttention", "EvaAttention")


class TimmAttention(InPlaceOfAttention):
    """In the place of timm's ``Attention`` and ``EvaAttention``."""

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Tokens to tokens, (N, L, C).

        Raises:
            TypeError: there is a mask or a rotary embedding.
        """
        refuse(rope=rope, attn_mask=attn_mask, is_causal=is_causal)
        return self.mix(x)


def find_in_vision_transformer(model: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The attentions in the blocks of a ``VisionTransformer`` or ``Eva``."""
    parts: Any = model
    reason = _reason_to_keep(parts)
    plane = Plane(None if parts.dynamic_img_size else check_grid(parts.patch_embed.grid_size))

    def install() -> Any:
        return parts.patch_embed.register_forward_hook(NotePatches(plane)).remove

    for inner, module in parts.blocks.named_modules():
        if not any(is_a(module, "timm", kind) for kind in ATTENTIONS):
            continue
        attention: Any = module
        full = join(name, f"blocks.{inner}")
        dim = parts.embed_dim
        changes = "" if attention.proj.out_features == dim else "it changes the number of channels"
        if reason or changes:
            yield Kept(full, type(module).__name__, reason or changes)
            continue
        yield Site(
            full,
            module,
            dim,
            TimmAttention,
            prefix=parts.num_prefix_tokens,
            plane=plane,
            dropout=attention.proj_drop.p,
            install=install if parts.dynamic_img_size else None,
        )


def _reason_to_keep(model: Any) -> str:
    """Why no attention of a model can be replaced; empty if they can."""
    if getattr(model, "rope", None) is not None:
        return "rotary position embeddings (rope) have no counterpart in a line scan"
    drop = getattr(model, "patch_drop", None)
    if drop is not None and not isinstance(drop, nn.Identity):
        return "patches are dropped in training (patch_drop_rate), which leaves no plane"
    return ""


def timm_attention(
    *,
    grid: Grid,
    prefix: int,
    proxy: int = 2,
    chunk: int | None = None,
    rung: str = "auto",
) -> type[TimmAttention]:
    """A class for timm's ``attn_layer``, which builds models with GSPN-2 from the start.

    Args:
        grid: H and W of the patches, or "square".
        prefix: number of class and register tokens.
        proxy: C_proxy.
        chunk: as for ``GSPN2Attention``.
        rung: as for ``GSPN2Attention``.

    Raises:
        ValueError: the grid is invalid.
    """
    options = Options(proxy, chunk, rung, prefix, check_grid(grid))

    class Attention(TimmAttention):
        """GSPN-2 in a new model."""

        def __init__(
            self,
            dim: int,
            *,
            proj_drop: float = 0.0,
            device: torch.device | str | None = None,
            dtype: torch.dtype | None = None,
            **_: object,
        ) -> None:
            factory: dict[str, Any] = {"device": device, "dtype": dtype}
            scan = GSPN2Attention(dim, proxy, chunk=chunk, rung=rung, **factory)
            mixer = PrefixedScan(scan, dim, prefix, **factory)
            super().__init__(mixer, Plane(options.grid), proj_drop, options)

    return Attention
