"""A block as transformers have it, with scans in the place of attention."""

from torch import Tensor, nn

from gspn2bench.nn.attention import check_size
from gspn2bench.nn.layout import Size, TokenMixer


class GSPNBlock(TokenMixer):
    """Norm and attention, norm and MLP, each added to what came in.

    Args:
        attention: mixes the positions; the block takes its channels from it.
        mlp_ratio: hidden channels of the MLP, in channels; above 0.

    Raises:
        ValueError: the MLP would have no hidden channel.
    """

    def __init__(self, attention: TokenMixer, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.dim = dim = attention.dim
        hidden = int(dim * mlp_ratio)
        check_size("dim * mlp_ratio", hidden)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        tokens = tokens + self.attention(self.norm1(tokens), size)
        added: Tensor = self.mlp(self.norm2(tokens))
        return tokens + added
