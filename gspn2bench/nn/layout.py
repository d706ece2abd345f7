"""Images (N, C, H, W) and tokens (N, H * W, C), row by row: what a module takes, it gives back."""

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

Size = tuple[int, int]


def to_tokens(x: Tensor, channels: int, size: Size | None) -> tuple[Tensor, Size]:
    """The tokens of an input, and the height and width of their plane.

    Args:
        x: an image, (N, C, H, W), or tokens, (N, L, C).
        channels: C, as the module has it.
        size: height and width where x is tokens; None for a square, and for an image.

    Raises:
        ValueError: names the argument, what it is and what was expected.
    """
    shape = tuple(x.shape)
    if x.dim() not in (3, 4) or shape[1 if x.dim() == 4 else 2] != channels:
        raise ValueError(
            f"x: shape {shape}, expected an image, (N, {channels}, H, W), "
            f"or tokens, (N, L, {channels})"
        )
    if 0 in shape:
        raise ValueError(f"x: shape {shape}, expected each size to be at least 1")
    if x.dim() == 4:
        plane = shape[2], shape[3]
        if size is not None and tuple(size) != plane:
            raise ValueError(f"size: {tuple(size)}, expected {plane}, as x, or None")
        return x.flatten(2).transpose(1, 2), plane
    if size is None:
        side = math.isqrt(int(shape[1]))
        size = side, side
    height, width = size
    if height * width != shape[1]:
        raise ValueError(
            f"size: {height} x {width} is {height * width} tokens, expected {shape[1]}, "
            f"as x of shape {shape}"
        )
    return x, (height, width)


def from_tokens(tokens: Tensor, like: Tensor, size: Size) -> Tensor:
    """Tokens in the layout of ``like``; an image's memory stays as the tokens', channels last."""
    if like.dim() == 3:
        return tokens
    return tokens.transpose(1, 2).view(tokens.shape[0], -1, *size)


class TokenMixer(nn.Module, ABC):
    """A module that works on tokens, and takes images too, of any H and W."""

    dim: int
    """Channels, C."""

    @abstractmethod
    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""

    def forward(self, x: Tensor, size: Size | None = None) -> Tensor:
        """Run the module on every image.

        Args:
            x: an image, (N, C, H, W), or tokens, (N, H * W, C), row by row.
            size: H and W where x is tokens; None for a square.

        Returns:
            Like x.

        Raises:
            ValueError: names the argument, what it is and what was expected.
        """
        tokens, size = to_tokens(x, self.dim, size)
        return from_tokens(self.mix(tokens, size), x, size)
