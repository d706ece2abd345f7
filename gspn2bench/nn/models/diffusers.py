"""Adapters for diffusers: UNets and transformers made of ``BasicTransformerBlock``."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from gspn2bench.nn.models.contract import InPlaceOfAttention, Kept, Site, is_a, join, refuse
from gspn2bench.nn.models.plane import NoteImage, Plane


class DiffusersAttention(InPlaceOfAttention):
    """In the place of the ``Attention`` of diffusers."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: object,
    ) -> Tensor:
        """Tokens to tokens, (N, L, C).

        Raises:
            TypeError: there is a mask, or it is cross-attention.
        """
        options.pop("scale", None)  # of LoRA: diffusers ignores it as well
        refuse(
            encoder_hidden_states=encoder_hidden_states, attention_mask=attention_mask, **options
        )
        return self.mix(hidden_states)


def find_in_transformer(model: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The self-attentions, ``attn1``, of a transformer over an image.

    Its input is (N, C, H, W), so H and W are known in every call. UNets contain one such
    transformer per level and layer.
    """
    parts: Any = model
    plane = None if getattr(parts, "is_input_vectorized", False) else Plane()
    patch = 1 if getattr(parts, "is_input_continuous", False) else parts.config.patch_size

    def install() -> Any:
        assert plane is not None
        hook = NoteImage(plane, "hidden_states", (patch, patch))
        return model.register_forward_pre_hook(hook, with_kwargs=True).remove

    for inner, block in model.named_modules():
        if not is_a(block, "diffusers", "BasicTransformerBlock"):
            continue
        for part in ("attn1", "attn2"):
            attention: Any = getattr(block, part)
            if attention is None or isinstance(attention, InPlaceOfAttention):
                continue
            full, kind = join(name, f"{inner}.{part}"), type(attention).__name__
            reason = _reason_to_keep(part, block, attention)
            if reason:
                yield Kept(full, kind, reason)
                continue
            yield Site(
                full,
                attention,
                attention.query_dim,
                DiffusersAttention,
                prefix=0,
                plane=plane,
                dropout=attention.dropout,
                install=install if plane else None,
            )


def _reason_to_keep(part: str, block: Any, attention: Any) -> str:
    """Why an attention cannot be replaced; empty if it can."""
    if part == "attn2" or block.only_cross_attention or attention.is_cross_attention:
        return "cross-attention: its keys are of a different sequence"
    extras = {
        "group_norm": attention.group_norm is not None,
        "spatial_norm": attention.spatial_norm is not None,
        "added_kv_proj_dim": attention.added_kv_proj_dim is not None,
        "residual_connection": attention.residual_connection,
        "rescale_output_factor": attention.rescale_output_factor != 1,
        "out_dim": attention.out_dim != attention.query_dim,
        "is_causal": getattr(attention, "is_causal", False),
    }
    named = [name for name, has in extras.items() if has]
    return f"it does more than attention: {', '.join(named)}" if named else ""
