"""Images (N, C, H, W) and tokens (N, H * W, C), row by row: modules return the layout they take."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

from torch import Tensor, nn

from gspn2bench.nn.check import Size, check_plane, refuse_others

__all__ = ["Grid", "Size", "TokenMixer", "check_grid", "from_tokens", "to_tokens"]

Grid = Size | Literal["square"]
"""H and W of tokens that come without ``size``: fixed, or those of a square of as many tokens."""


def check_grid(grid: Any) -> Grid | None:
    """Check a module's ``grid``.

    Raises:
        ValueError: it is neither None, "square" nor H and W.
    """
    if grid is None or grid == "square":
        return grid  # type: ignore[no-any-return]
    return check_plane("grid", grid)


def to_tokens(
    x: Tensor, channels: int, size: Size | None, grid: Grid | None = None
) -> tuple[Tensor, Size]:
    """The tokens of an input, and the height and width of their plane.

    Args:
        x: an image, (N, C, H, W), or tokens, (N, L, C). Any size but C may be 0.
        channels: C of the module.
        size: H and W of tokens; of an image None, or its own.
        grid: used for tokens without ``size``.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    shape = tuple(x.shape)
    if x.dim() not in (3, 4) or shape[1 if x.dim() == 4 else 2] != channels:
        raise ValueError(
            f"x: shape {shape}, expected an image, (N, {channels}, H, W), "
            f"or tokens, (N, L, {channels})"
        )
    if x.dim() == 4:
        plane = shape[2], shape[3]
        if size is not None and check_plane("size", size) != plane:
            raise ValueError(f"size: {tuple(size)}, expected {plane}, as x, or None")
        return x.flatten(2).transpose(1, 2), plane
    if size is None:
        name, plane = "grid", _plane_of(grid, shape)
    else:
        name, plane = "size", check_plane("size", size)
    height, width = plane
    if height * width != shape[1]:
        raise ValueError(
            f"{name}: {height} x {width} is {height * width} tokens, expected {shape[1]}, "
            f"as x of shape {shape}"
        )
    return x, plane


def _plane_of(grid: Grid | None, shape: tuple[int, ...]) -> Size:
    """The plane of tokens that came without ``size``."""
    if grid is None:
        raise ValueError(
            f"size: missing, but x is tokens, of shape {shape}, which may be a plane of any H and "
            "W: call the module with size=(H, W), or build it with grid=(H, W), or with "
            "grid='square' if its tokens are always those of a square"
        )
    if grid != "square":
        return grid
    side = math.isqrt(int(shape[1]))
    return side, side


def from_tokens(tokens: Tensor, like: Tensor, size: Size) -> Tensor:
    """Tokens in the layout of ``like``. An image keeps the memory of the tokens: channels last."""
    if like.dim() == 3:
        return tokens
    return tokens.transpose(1, 2).view(tokens.shape[0], tokens.shape[2], *size)


class TokenMixer(nn.Module, ABC):
    """A module that works on tokens, and also takes images, of any H and W."""

    dim: int
    """Channels, C."""
    planar: bool = True
    """Whether the result depends on H and W. If not, tokens need no ``size``."""
    grid: Grid | None = None
    """H and W of tokens that come without ``size``; None: ``size`` is required."""

    @abstractmethod
    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""

    def forward(
        self, x: Tensor, size: Size | None = None, *others: None, **options: Literal[False] | None
    ) -> Tensor:
        """Apply the module to every image.

        Args:
            x: an image, (N, C, H, W), or tokens, (N, H * W, C), row by row.
            size: H and W of tokens; None for an image, or if the module has a ``grid``.
            others: accepted if None.
            options: accepted if None or False, as some callers of attention pass ``attn_mask=None``
                or ``need_weights=False``.

        Returns:
            Like x.

        Raises:
            ValueError: x or size is invalid; the message names it and says what was expected.
            TypeError: there are other arguments, a mask for example.
        """
        if size is None and not self.planar and x.dim() == 3:
            size = x.shape[1], 1
        tokens, size = to_tokens(x, self.dim, size, self.grid)
        if others or options:
            refuse_others(type(self).__name__, others, options)
        return from_tokens(self.mix(tokens, size), x, size)
