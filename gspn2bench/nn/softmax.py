"""Softmax attention, which line scans replace, with torch's back ends.

Source: Vaswani et al., arXiv 1706.03762, section 3.2; the back ends are torch's.
"""

from contextlib import nullcontext
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear, scaled_dot_product_attention

from gspn2bench.nn.check import Size, check_size
from gspn2bench.nn.layout import TokenMixer
from gspn2bench.nn.state import reset_parameters

HEAD: Final = 64
"""Channels per head: SigLIP2-Base has 12 heads for 768 channels, SDXL 10 for 640, 20 for 1280."""

SoftmaxBackend = Literal["flash", "cudnn", "efficient"]
BACKENDS: Final[dict[SoftmaxBackend, SDPBackend]] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


class SoftmaxAttention(TokenMixer):
    """Multi-head attention of every position to every other. Tokens need no ``size``.

    Args:
        dim: channels, C.
        heads: number of heads, a divisor of C; None: heads of 64 channels.
        backend: of torch's scaled_dot_product_attention; None: torch's choice.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1, or the heads do not divide the channels.
    """

    planar = False

    def __init__(
        self,
        dim: int,
        heads: int | None = None,
        *,
        backend: SoftmaxBackend | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        heads = max(1, dim // HEAD) if heads is None else heads
        check_size("dim", dim)
        check_size("heads", heads)
        if dim % heads:
            raise ValueError(f"heads: {heads} do not divide {dim} channels")
        self.dim, self.heads, self.backend = dim, heads, backend
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.qkv = nn.Linear(dim, 3 * dim, **factory)
        self.out = nn.Linear(dim, dim, **factory)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:  # noqa: ARG002
        """Tokens to tokens, (N, L, C)."""
        with sdpa_kernel(BACKENDS[self.backend]) if self.backend else nullcontext():
            mixed = scaled_dot_product_attention(*self._heads(tokens))
        merged: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return merged

    def at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The result of ``mix`` at some positions, written out: the reference of the back ends.

        Args:
            tokens: (N, L, C).
            positions: of tokens, (P,).

        Returns:
            (N, P, C).
        """
        merged: Tensor = self.out(_written_out(*self._heads(tokens), positions))
        return merged

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        reset_parameters(self.qkv)
        reset_parameters(self.out)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, heads={self.heads}, backend={self.backend!r}"

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (N, heads, L, C / heads)."""
        return _split(self.qkv(tokens), self.heads)


class TorchAttention(TokenMixer):
    """torch.nn.MultiheadAttention as a mixer of tokens.

    Args:
        dim: channels, C.
        heads: as for ``SoftmaxAttention``.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1.
    """

    planar = False

    def __init__(
        self,
        dim: int,
        heads: int | None = None,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_size("dim", dim)
        self.dim = dim
        heads = heads or max(1, dim // HEAD)
        self.inner = nn.MultiheadAttention(
            dim, heads, batch_first=True, bias=bias, device=device, dtype=dtype
        )

    def mix(self, tokens: Tensor, size: Size) -> Tensor:  # noqa: ARG002
        """Tokens to tokens, (N, L, C)."""
        mixed: Tensor = self.inner(tokens, tokens, tokens, need_weights=False)[0]
        return mixed

    def at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The result of ``mix`` at some positions, written out: see ``SoftmaxAttention.at``."""
        inner = self.inner
        qkv = linear(tokens, inner.in_proj_weight, inner.in_proj_bias)
        merged: Tensor = inner.out_proj(_written_out(*_split(qkv, inner.num_heads), positions))
        return merged

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        self.inner.out_proj.reset_parameters()
        self.inner._reset_parameters()


def _split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(N, L, 3 C) to queries, keys and values, each (N, heads, L, C / heads)."""
    sizes = *qkv.shape[:2], 3, heads, qkv.shape[2] // (3 * heads)
    query, key, value = qkv.view(sizes).permute(2, 0, 3, 1, 4)
    return query, key, value


def _written_out(query: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> Tensor:
    """The concatenated results of the heads at some positions, (N, P, C)."""
    scores: Tensor = query[:, :, positions] @ key.transpose(-1, -2) / key.shape[-1] ** 0.5
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
