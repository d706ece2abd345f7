"""Planes rearranged as lines in scan order, in torch: the layout that a loop over lines needs.

The lines of all images, channels and chunks lie side by side. One operation computes one line of
each.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gspn2bench.problem import Direction


@dataclass(frozen=True)
class Lines:
    """The mapping from planes to lines in scan order, chunks side by side, and back.

    Args:
        axis: scanned axis of the plane, -2 or -1.
        reverse: whether the scan starts at the last line.
        steps: lines per plane.
        length: lines per chunk.
    """

    axis: int
    reverse: bool
    steps: int
    length: int

    @classmethod
    def of(cls, x: Tensor, direction: Direction, chunk: int | None) -> "Lines":
        """The lines of a scan over planes (..., H, W); None: one chunk for the whole scan."""
        axis = -2 if direction in ("down", "up") else -1
        steps = x.shape[axis]
        return cls(axis, direction in ("up", "left"), steps, min(chunk or steps, steps))

    def take(self, planes: Tensor) -> Tensor:
        """(..., H, W) to (length, chunks, ..., positions); a short last chunk ends in zeros."""
        lines = planes.movedim(self.axis, 0)
        if self.reverse:
            lines = lines.flip(0)
        missing = -self.steps % self.length
        if missing:
            lines = torch.cat([lines, lines.new_zeros(missing, *lines.shape[1:])])
        return lines.reshape(-1, self.length, *lines.shape[1:]).transpose(0, 1)

    def put(self, lines: Tensor) -> Tensor:
        """The inverse of ``take``."""
        planes = lines.transpose(0, 1).flatten(0, 1)[: self.steps]
        if self.reverse:
            planes = planes.flip(0)
        return planes.movedim(0, self.axis)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in the type of the sums: float32, or float64 for float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def with_channels(w: Tensor) -> Tensor:
    """Weights as (3, N, C, H, W); C is 1 where the channels share them."""
    return w if w.dim() == 5 else w.unsqueeze(2)


def between_zeros(lines: Tensor) -> Tensor:
    """A copy with a zero at both ends of every line: (..., positions + 2)."""
    return F.pad(lines, (1, 1))
