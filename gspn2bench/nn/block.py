"""A transformer block, with scans or attention as its mixer."""

from typing import Any

import torch
from torch import Tensor, nn

from gspn2bench.nn.check import Size, check_size
from gspn2bench.nn.layout import TokenMixer
from gspn2bench.nn.state import reset_parameters


class GSPNBlock(TokenMixer):
    """Norm and attention, norm and MLP, each added to its input.

    Args:
        attention: mixes the positions. The block has its channels, and its ``grid``.
        mlp_ratio: hidden channels of the MLP per channel; above 0.
        bias: whether the norms and the MLP have a bias.
        device: of the block's own parameters; None: torch's default.
        dtype: of the block's own parameters; None: torch's default.

    Raises:
        ValueError: the MLP would have no hidden channel.
    """

    def __init__(
        self,
        attention: TokenMixer,
        *,
        mlp_ratio: float = 4.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim = attention.dim
        self.grid, self.planar = attention.grid, attention.planar
        self.mlp_ratio = mlp_ratio
        hidden = int(dim * mlp_ratio)
        check_size("dim * mlp_ratio", hidden)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.norm1 = nn.LayerNorm(dim, **factory)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, **factory)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden, **factory), nn.GELU(), nn.Linear(hidden, dim, **factory)
        )

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        tokens = tokens + self.attention(self.norm1(tokens), size)
        added: Tensor = self.mlp(self.norm2(tokens))
        return tokens + added

    def reset_parameters(self) -> None:
        """Draw new parameters, those of the attention too."""
        for part in (self.norm1, self.attention, self.norm2, self.mlp):
            reset_parameters(part)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, mlp_ratio={self.mlp_ratio}"
