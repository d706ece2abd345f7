"""Line scans in the place of attention: what a position sends reaches every other.

Source: arXiv 2501.12381, section 3 (GSPN-1); arXiv 2512.07884, section 3 (GSPN-2). What
lam, u and the weights are made of, and that lam and u start near 1, is our choice.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.ops import line_scan4
from gspn2bench.problem import DIRECTIONS

FOLDED: Final = 8
"""C_proxy up to which the projections are folded into the maps beside them.

A product with so few columns takes as long as reading the tokens, and one with 9 C_proxy + 12 of
them no longer.
"""

ALIGNED: Final = 8
"""Columns that a product has a multiple of, so that 16-bit ones lie at multiples of 16 bytes."""


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

    scan4 = staticmethod(line_scan4)
    """The scans; another function of the same arguments can take its place."""

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
        weights, biases = self.makers
        made = by_channel(features, torch.cat(weights), torch.cat(biases))
        merged: Tensor = self.merge(self.scans(x, made, size))
        return merged.view(x.shape)

    @property
    def makers(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases of the maps that make lam, u and the logits of features."""
        parts = (self.lam, self.u, self.weights)
        return [part.weight for part in parts], [part.bias for part in parts]

    def scans(self, x: Tensor, made: Tensor, size: Size) -> Tensor:
        """The four u h, side by side.

        Args:
            x: tokens, (N, H * W, C).
            made: tokens, of the ``makers``.
            size: H and W.

        Returns:
            Positions of all images, (N * H * W, 4 C), channel by channel in memory: a product that
            reads them so is faster than one that reads 4 C numbers at a time.
        """
        longest = max(size)
        chunk = None if self.chunk is None or self.chunk >= longest else self.chunk
        directions = len(DIRECTIONS)
        batch, channels = len(x), self.channels
        image = x.transpose(1, 2).reshape(batch, channels, *size)
        own = directions * channels
        each = torch.split(made.transpose(1, 2), [own, own, made.shape[2] - 2 * own], 1)
        lam, u = (t.reshape(batch, directions, channels, *size).transpose(0, 1) for t in each[:2])
        sets = () if self.shared else (channels,)
        logits = each[2].reshape(batch, directions, 3, *sets, *size).movedim(0, 2)
        operands = (tensor.contiguous() for tensor in (image, lam, logits))
        h = self.scan4(*operands, chunk=chunk, rung=self.rung, logits=True)
        scanned: Tensor = u * h
        return scanned.transpose(1, 2).flatten(2).flatten(0, 1).t()


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
        self.proxy = proxy
        self.down = nn.Linear(dim, proxy)
        self.scans = FourScans(proxy, proxy, shared=True, chunk=chunk, rung=rung)
        self.up = nn.Linear(proxy, dim)
        self.spare = -(proxy + sum(map(len, self.scans.makers[1]))) % ALIGNED
        self.same: Tensor
        self.none: Tensor
        self.register_buffer("same", torch.eye(proxy), persistent=False)
        zeros = torch.zeros(max(proxy, self.spare), proxy)
        self.register_buffer("none", zeros, persistent=False)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        if self.proxy > FOLDED:
            proxy = by_channel(tokens, self.down.weight, self.down.bias)
            expanded: Tensor = self.up(self.scans(proxy, proxy, size))
            return expanded
        # Linear maps in a row are one: x, lam, u and the logits come of one product with the
        # tokens, and the merge goes into the projection back.
        weight, bias = self._front()
        made = by_channel(tokens, weight, bias)[..., : len(bias) - self.spare]
        scanned = self.scans.scans(made[..., : self.proxy], made[..., self.proxy :], size)
        up, merge = self.up, self.scans.merge
        weight, bias = up.weight @ merge.weight, torch.addmv(up.bias, up.weight, merge.bias)
        mixed = linear(scanned, weight, bias)
        return mixed.view(tokens.shape)

    def _front(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the map that makes x, lam, u, the logits and spare zeros of tokens."""
        weights, biases = self.scans.makers
        weight = torch.cat([self.same, *weights, self.none[: self.spare]])
        bias = torch.cat([self.none[: self.proxy, 0], *biases, self.none[: self.spare, 0]])
        return weight @ self.down.weight, torch.addmv(bias, weight, self.down.bias)


def by_channel(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map, whose output lies in memory as scans take it: channel by channel.

    Args:
        tokens: (N, L, C).
        weight: (K, C).
        bias: (K,).

    Returns:
        Tokens, (N, L, K), a view of planes, (K, N, L).
    """
    planes = torch.addmm(bias[:, None], weight, tokens.flatten(0, 1).t())
    return planes.view(-1, *tokens.shape[:2]).permute(1, 2, 0)


def check_size(name: str, value: int) -> None:
    """Hold a size to its least value.

    Raises:
        ValueError: it is below 1.
    """
    if value < 1:
        raise ValueError(f"{name}: {value} is below 1")
