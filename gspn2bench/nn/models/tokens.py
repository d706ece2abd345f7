"""Scans over the patches of a model, and attention of the few tokens in front of them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gspn2bench.nn.check import Size
from gspn2bench.nn.state import reset_parameters


class PrefixedScan(nn.Module):
    """Mixes patches, and class and register tokens in front of them.

    Patches are mixed by scans. A token in front has no place in the plane. It reads all tokens by
    softmax attention with one head: with few such tokens this is linear in the number of patches.
    Its key map is folded into its query, and its value map follows the attention, so no product
    has as many rows as there are patches. The patches read the tokens in front as a vector that is
    added to each of them before the scans. Which form this takes is our choice.

    Args:
        scan: called with the patches, (N, H * W, C), and (H, W).
        dim: channels, C.
        prefix: number of tokens in front.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.
    """

    def __init__(
        self,
        scan: nn.Module,
        dim: int,
        prefix: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.prefix = prefix
        self.scan = scan
        if prefix:
            self.query = nn.Linear(dim, dim, **factory)
            self.value = nn.Linear(dim, dim, **factory)
            self.inform = nn.Linear(dim, dim, **factory)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, prefix + H * W, C)."""
        if not self.prefix:
            scanned: Tensor = self.scan(tokens, size)
            return scanned
        front, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        context = self.inform(front).mean(1, keepdim=True)
        keys = tokens.unsqueeze(1)
        read = scaled_dot_product_attention(self.query(front).unsqueeze(1), keys, keys).squeeze(1)
        return torch.cat([self.value(read), self.scan(patches + context, size)], 1)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for part in self.children():
            reset_parameters(part)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"prefix={self.prefix}"
