"""Line scans in place of attention: every position reaches every other.

Source: arXiv 2501.12381, section 3 (GSPN-1); arXiv 2512.07884, section 3 (GSPN-2). The maps that
produce lam, u and the weights are our choice, and so is lam = u = 1 plus a linear map.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gspn2bench.nn.check import Size, check_size
from gspn2bench.nn.folding import add_bias, are_plain_linear, by_channel, is_plain, project
from gspn2bench.nn.layout import Grid, TokenMixer, check_grid
from gspn2bench.nn.scans import FourScans
from gspn2bench.nn.state import reset_parameters

__all__ = ["FOLDED", "FourScans", "GSPN1Attention", "GSPN2Attention"]

FOLDED: Final = 8
"""C_proxy up to which the projections are folded into the maps next to them.

A product with so few columns takes as long as reading the tokens, and one with 9 C_proxy + 12
columns takes no longer.
"""

ALIGNED: Final = 8
"""The columns of a product are a multiple of this: 16-bit columns then start at 16-byte addresses.
"""


class GSPN1Attention(TokenMixer):
    """Four scans of all channels, each channel with its own weights.

    Args:
        dim: channels, C.
        reduced: features that lam, u and the weights are computed from; None: a quarter of the
            channels, our choice.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: the rung that computes on a GPU, by id.
        grid: H and W of tokens that come without ``size``, or "square" if they are always those of
            a square; None: ``size`` is required.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1, or grid is invalid; the message names it.
    """

    def __init__(
        self,
        dim: int,
        reduced: int | None = None,
        *,
        chunk: int | None = None,
        rung: str = "r07",
        grid: Grid | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        reduced = max(1, dim // 4) if reduced is None else reduced
        check_size("dim", dim)
        check_size("reduced", reduced)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.dim = dim
        self.reduced = reduced
        self.grid = check_grid(grid)
        self.reduce = nn.Linear(dim, reduced, **factory)
        self.scans = FourScans(dim, reduced, shared=False, chunk=chunk, rung=rung, **factory)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        mixed: Tensor = self.scans(tokens, self.reduce(tokens), size)
        return mixed

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        reset_parameters(self.reduce)
        reset_parameters(self.scans)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, reduced={self.reduced}, grid={self.grid!r}"


class GSPN2Attention(TokenMixer):
    """Four scans of a few proxy channels, which share their weights.

    A 1 x 1 projection to C_proxy channels, which are scanned, and from which lam, u and the weights
    are computed; a learned merge of the four directions; a 1 x 1 projection back.

    Args:
        dim: channels, C.
        proxy: C_proxy, the number of channels that are scanned.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: the rung that computes on a GPU, by id.
        grid: as for ``GSPN1Attention``.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1, or grid is invalid; the message names it.
    """

    def __init__(
        self,
        dim: int,
        proxy: int = 2,
        *,
        chunk: int | None = None,
        rung: str = "r07",
        grid: Grid | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_size("dim", dim)
        check_size("proxy", proxy)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.dim = dim
        self.proxy = proxy
        self.grid = check_grid(grid)
        self.down = nn.Linear(dim, proxy, **factory)
        self.scans = FourScans(proxy, proxy, shared=True, chunk=chunk, rung=rung, **factory)
        self.up = nn.Linear(proxy, dim, **factory)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        if self._folds():
            return self._mix_folded(tokens, size)
        proxy = project(self.down, tokens)
        expanded: Tensor = self.up(self.scans(proxy, proxy, size))
        return expanded

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for part in (self.down, self.scans, self.up):
            reset_parameters(part)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, proxy={self.proxy}, grid={self.grid!r}"

    def _folds(self) -> bool:
        """Whether consecutive linear maps are multiplied with each other."""
        scans = self.scans
        return (
            self.proxy <= FOLDED
            and is_plain(scans, FourScans)
            and are_plain_linear(self.down, *scans.maps, scans.merge, self.up)
        )

    def _mix_folded(self, tokens: Tensor, size: Size) -> Tensor:
        """``mix`` with two products: one before the scans, one after."""
        scans, proxy = self.scans, self.proxy
        planes = by_channel(tokens, *self._before_scans())
        sizes = [proxy, *scans.outputs]
        x, lam, u, logits, _ = torch.split(planes, [*sizes, planes.shape[2] - sum(sizes)], 2)
        scanned = scans.scan(x, lam, u, logits, size)
        mixed = linear(scanned, *self._after_scans())
        return mixed.view(tokens.shape)

    def _before_scans(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the map from tokens to x, lam, u, the logits and padding."""
        weight, bias = self.scans.stacked_maps()
        down = self.down.weight
        spare = -(self.proxy + weight.shape[0]) % ALIGNED
        padding = down.new_zeros(spare, self.dim)
        own_bias = self.down.bias
        all_bias = add_bias(bias, weight, own_bias)
        assert all_bias is not None
        first = down.new_zeros(self.proxy) if own_bias is None else own_bias
        return (
            torch.cat([down, weight @ down, padding]),
            torch.cat([first, all_bias, padding[:, 0]]),
        )

    def _after_scans(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the map from the four scans to tokens: merge and projection."""
        up, merge = self.up, self.scans.merge
        return up.weight @ merge.weight, add_bias(up.bias, up.weight, merge.bias)
