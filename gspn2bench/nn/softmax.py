"""Softmax attention, which scans take the place of: its back ends in torch, side by side.

Source: Vaswani et al., arXiv 1706.03762, section 3.2; the back ends are torch's.
"""

from contextlib import nullcontext
from typing import Final, Literal

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear, scaled_dot_product_attention

from gspn2bench.nn.attention import check_size
from gspn2bench.nn.layout import Size, TokenMixer

HEAD: Final = 64
"""Channels of a head: SigLIP2-Base has 12 heads in 768 channels, SDXL 10 in 640 and 20 in 1280."""

SoftmaxBackend = Literal["flash", "cudnn", "efficient"]
BACKENDS: Final[dict[SoftmaxBackend, SDPBackend]] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


class SoftmaxAttention(TokenMixer):
    """Multi-head attention of every position to every other.

    Args:
        dim: channels, C.
        heads: that share them; None: of 64 channels each.
        backend: of torch's scaled_dot_product_attention; None: torch's choice.

    Raises:
        ValueError: a size is below 1, or the heads do not divide the channels.
    """

    def __init__(
        self, dim: int, heads: int | None = None, *, backend: SoftmaxBackend | None = None
    ) -> None:
        super().__init__()
        heads = max(1, dim // HEAD) if heads is None else heads
        check_size("dim", dim)
        check_size("heads", heads)
        if dim % heads:
            raise ValueError(f"heads: {heads} do not divide {dim} channels")
        self.dim, self.heads, self.backend = dim, heads, backend
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:  # noqa: ARG002
        """Tokens to tokens, (N, L, C)."""
        with sdpa_kernel(BACKENDS[self.backend]) if self.backend else nullcontext():
            mixed = scaled_dot_product_attention(*self._heads(tokens))
        merged: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return merged

    def at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """What ``mix`` gives at some positions, written out: for tests of the back ends.

        Args:
            tokens: (N, L, C).
            positions: of tokens, (P,).

        Returns:
            (N, P, C).
        """
        merged: Tensor = self.out(_written_out(*self._heads(tokens), positions))
        return merged

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (N, heads, L, C / heads)."""
        return _split(self.qkv(tokens), self.heads)


class TorchAttention(TokenMixer):
    """torch.nn.MultiheadAttention, as a mixer of tokens.

    Args:
        dim: channels, C.
        heads: as ``SoftmaxAttention``.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(self, dim: int, heads: int | None = None) -> None:
        super().__init__()
        check_size("dim", dim)
        self.dim = dim
        self.inner = nn.MultiheadAttention(dim, heads or max(1, dim // HEAD), batch_first=True)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:  # noqa: ARG002
        """Tokens to tokens, (N, L, C)."""
        mixed: Tensor = self.inner(tokens, tokens, tokens, need_weights=False)[0]
        return mixed

    def at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """What ``mix`` gives at some positions, written out: see ``SoftmaxAttention.at``."""
        inner = self.inner
        made = linear(tokens, inner.in_proj_weight, inner.in_proj_bias)
        merged: Tensor = inner.out_proj(_written_out(*_split(made, inner.num_heads), positions))
        return merged


def _split(made: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, L, 3 C) into queries, keys and values, each (N, heads, L, C / heads)."""
    query, key, value = made.view(*made.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def _written_out(query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> Tensor:
    """The heads' results at some positions, side by side, (N, P, C)."""
    scores: Tensor = query[:, :, positions] @ key.transpose(-1, -2) / key.shape[-1] ** 0.5
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
