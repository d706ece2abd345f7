"""Line scans in the place of attention: what a position sends reaches every other.

Source: arXiv 2501.12381, section 3 (GSPN-1); arXiv 2512.07884, section 3 (GSPN-2). What
lam, u and the weights are made of, and that lam and u start near 1, is our choice.
"""

import torch
from torch import Tensor, nn

from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.ops import line_scan4, normalize_weights
from gspn2bench.problem import DIRECTIONS


class FourScans(nn.Module):
    """Four scans of x, their lam, u and weights made of features; a linear layer merges them.

    Args:
        channels: C, of x.
        features: F, of the features.
        shared: whether the channels share their weights.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: whose kernels run on a GPU, by id.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(
        self, channels: int, features: int, *, shared: bool, chunk: int | None, rung: str
    ) -> None:
        super().__init__()
        check_size("chunk", 1 if chunk is None else chunk)
        self.channels, self.shared, self.chunk, self.rung = channels, shared, chunk, rung
        directions = len(DIRECTIONS)
        sets = 1 if shared else channels
        self.lam = nn.Linear(features, directions * channels)
        self.u = nn.Linear(features, directions * channels)
        self.weights = nn.Linear(features, directions * 3 * sets)
        self.merge = nn.Linear(directions * channels, channels)
        nn.init.ones_(self.lam.bias)
        nn.init.ones_(self.u.bias)

    def forward(self, x: Tensor, features: Tensor, size: Size) -> Tensor:
        """Merged scans.

        Args:
            x: tokens, (N, H * W, C).
            features: tokens, (N, H * W, F).
            size: H and W.

        Returns:
            Tokens, (N, H * W, C).
        """
        longest = max(size)
        chunk = None if self.chunk is None or self.chunk >= longest else self.chunk
        plane = (x.shape[0], *size)
        x, features = x.reshape(*plane, -1), features.reshape(*plane, -1)
        each = (len(DIRECTIONS), self.channels)
        lam = self.lam(features).reshape(*plane, *each).permute(3, 0, 4, 1, 2)
        u = self.u(features).reshape(*plane, *each).permute(3, 0, 4, 1, 2)
        w = self._weights(features)
        h = line_scan4(x.permute(0, 3, 1, 2), lam, w, chunk=chunk, rung=self.rung)
        y = (u * h).permute(1, 3, 4, 0, 2).flatten(3)
        merged: Tensor = self.merge(y)
        return merged.flatten(1, 2)

    def _weights(self, features: Tensor) -> Tensor:
        """The weights of each direction, (4, 3, N, C, H, W) or (4, 3, N, H, W)."""
        plane = features.shape[:3]
        logits = self.weights(features)
        if self.shared:
            logits = logits.reshape(*plane, len(DIRECTIONS), 3).permute(3, 4, 0, 1, 2)
        else:
            each = (len(DIRECTIONS), 3, self.channels)
            logits = logits.reshape(*plane, *each).permute(3, 4, 0, 5, 1, 2)
        pairs = zip(logits, DIRECTIONS, strict=True)
        return torch.stack([normalize_weights(own, direction=towards) for own, towards in pairs])


class GSPN1Attention(TokenMixer):
    """Four scans of every channel, each with weights of its own.

    Args:
        dim: channels, C.
        reduced: features that lam, u and the weights are made of; None: a quarter of the channels,
            our choice.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: whose kernels run on a GPU, by id.

    Raises:
        ValueError: a size is below 1; the message names it.
    """

    def __init__(
        self, dim: int, reduced: int | None = None, *, chunk: int | None = None, rung: str = "r07"
    ) -> None:
        super().__init__()
        reduced = max(1, dim // 4) if reduced is None else reduced
        check_size("dim", dim)
        check_size("reduced", reduced)
        self.dim = dim
        self.reduce = nn.Linear(dim, reduced)
        self.scans = FourScans(dim, reduced, shared=False, chunk=chunk, rung=rung)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        mixed: Tensor = self.scans(tokens, self.reduce(tokens), size)
        return mixed


class GSPN2Attention(TokenMixer):
    """Four scans of a few proxy channels, which share their weights.

    A 1 x 1 projection to C_proxy channels, of which lam, u and the weights are made and which are
    scanned; a learned merge of the four directions; a 1 x 1 projection back.

    Args:
        dim: channels, C.
        proxy: C_proxy, channels that are scanned.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: whose kernels run on a GPU, by id.

    Raises:
        ValueError: a size is below 1; the message names it.
    """

    def __init__(
        self, dim: int, proxy: int = 2, *, chunk: int | None = None, rung: str = "r07"
    ) -> None:
        super().__init__()
        check_size("dim", dim)
        check_size("proxy", proxy)
        self.dim = dim
        self.down = nn.Linear(dim, proxy)
        self.scans = FourScans(proxy, proxy, shared=True, chunk=chunk, rung=rung)
        self.up = nn.Linear(proxy, dim)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        proxy = self.down(tokens)
        mixed: Tensor = self.up(self.scans(proxy, proxy, size))
        return mixed


def check_size(name: str, value: int) -> None:
    """Hold a size to its least value.

    Raises:
        ValueError: it is below 1.
    """
    if value < 1:
        raise ValueError(f"{name}: {value} is below 1")
