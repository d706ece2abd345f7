"""H and W of the patches: fixed, those of a square, or noted in every call of a model."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gspn2bench.nn.check import Size
from gspn2bench.nn.layout import Grid


class Plane:
    """The plane that the attentions of a model share.

    Args:
        grid: H and W, or "square"; None: a hook notes them in every call of the model.
    """

    def __init__(self, grid: Grid | None = None) -> None:
        self.grid = grid
        self._noted: Size | None = None
        self._seen: set[Size] = set()

    def note(self, height: int, width: int) -> None:
        """Keep H and W of the input of this call."""
        self._noted = height, width
        if not torch.compiler.is_compiling():
            self._seen.add(self._noted)

    def size(self, positions: int) -> Size:
        """H and W of so many patches.

        Raises:
            RuntimeError: no call noted them, or a recomputation in backward cannot tell them.
        """
        if self.grid == "square":
            side = math.isqrt(int(positions))
            return side, side
        if self.grid is not None:
            return self.grid
        if self._noted is None:
            raise RuntimeError(
                "H and W of the patches are not known: call the model, not its attention"
            )
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            self._check_recomputation(positions)
        return self._noted

    def _check_recomputation(self, positions: int) -> None:
        """Gradient checkpointing calls blocks in backward, maybe after a call of the model."""
        planes = [size for size in self._seen if size[0] * size[1] == positions]
        if len(planes) > 1:
            raise RuntimeError(
                f"H and W of {positions} patches are ambiguous in a recomputation: the model was "
                f"called with {' and '.join(f'{h} x {w}' for h, w in sorted(planes))}; with "
                "gradient checkpointing use one of them"
            )
        if planes:
            self._noted = planes[0]


class NoteImage:
    """A forward pre-hook that notes the plane of an image.

    Args:
        plane: is told H and W.
        argument: name of the image among the module's arguments; it is the first one.
        patch: height and width of a patch, in pixels.
    """

    def __init__(self, plane: Plane, argument: str, patch: Size) -> None:
        self.plane, self.argument, self.patch = plane, argument, patch

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note H and W of (..., H, W) in patches."""
        image: Tensor = args[0] if args else kwargs[self.argument]
        height, width = image.shape[-2:]
        self.plane.note(height // self.patch[0], width // self.patch[1])


class NotePatches:
    """A forward hook that notes the plane of a module's output, (N, H, W, C)."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane

    def __call__(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        """Note H and W."""
        self.plane.note(output.shape[1], output.shape[2])
