"""Adapter for torch: TransformerEncoderLayer, and the call of MultiheadAttention."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from gspn2bench.nn.models.contract import (
    InPlaceOfAttention,
    Kept,
    Options,
    Site,
    join,
    refuse,
)
from gspn2bench.nn.models.plane import Plane
from gspn2bench.nn.models.tokens import PrefixedScan


class TorchSelfAttention(InPlaceOfAttention):
    """In the place of ``torch.nn.MultiheadAttention`` that is called with one sequence.

    Args:
        mixer: mixes the tokens.
        plane: H and W of the patches.
        dropout: share of the output that is dropped in training.
        options: recorded for saving.
        batch_first: whether tokens are (N, L, C), not (L, N, C).
    """

    in_proj_bias: None = None
    """TransformerEncoderLayer reads it, and does not take its fast path without a bias."""

    def __init__(
        self,
        mixer: PrefixedScan,
        plane: Plane,
        dropout: float,
        options: Options | None,
        *,
        batch_first: bool,
    ) -> None:
        super().__init__(mixer, plane, dropout, options)
        self.batch_first = batch_first

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: ARG002
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Tokens to tokens, and None for the weights.

        Raises:
            TypeError: there is a mask, weights are asked for, or it is cross-attention.
            ValueError: the tokens have no axis for the batch.
        """
        refuse(
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            is_causal=is_causal,
            key=None if key is query else key,
            value=None if value is query else value,
        )
        if query.dim() != 3:
            raise ValueError(f"query: shape {tuple(query.shape)}, expected (N, L, C) or (L, N, C)")
        if self.batch_first:
            return self.mix(query), None
        return self.mix(query.transpose(0, 1)).transpose(0, 1), None


def of_multihead_attention(
    name: str, attention: Any, prefix: int | None, plane: Plane | None, **options: Any
) -> Site | Kept:
    """The site of a ``MultiheadAttention`` that is called with one sequence."""
    kind = type(attention).__name__
    if not isinstance(attention, nn.MultiheadAttention):
        return Kept(name, kind, "it is not torch's MultiheadAttention")
    build = partial(TorchSelfAttention, batch_first=attention.batch_first)
    return Site(name, attention, attention.embed_dim, build, prefix, plane, **options)


def find_in_encoder_layer(layer: nn.Module, name: str) -> Iterator[Site | Kept]:
    """The attention of a ``TransformerEncoderLayer``. Its tokens do not tell H and W."""
    attention: Any = layer.self_attn
    if isinstance(attention, InPlaceOfAttention):
        return
    yield of_multihead_attention(join(name, "self_attn"), attention, None, None)


def forbid_nested_tensors(model: nn.Module) -> list[Callable[[], None]]:
    """Keep a ``TransformerEncoder`` from packing tokens by their mask before any layer sees it.

    Returns:
        Functions that undo it.
    """
    undo: list[Callable[[], None]] = []
    for module in model.modules():
        if (
            isinstance(module, nn.TransformerEncoder)
            and getattr(module, "use_nested_tensor", False)
            and any(isinstance(part, TorchSelfAttention) for part in module.modules())
        ):
            module.use_nested_tensor = False
            undo.append(partial(setattr, module, "use_nested_tensor", True))
    return undo
