"""Checks of the modules' arguments."""

import numbers
from typing import Any

import torch

Size = tuple[int, int]
"""Height and width of a plane."""


def check_size(name: str, value: int) -> None:
    """Check that a size is at least 1.

    Raises:
        ValueError: it is not; the message names it.
    """
    if value < 1:
        raise ValueError(f"{name}: {value} is below 1")


def check_plane(name: str, value: Any) -> Size:
    """Check that a value is a height and a width.

    Raises:
        ValueError: it is not two whole numbers of at least 0; the message names it.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_whole, value)):
        raise ValueError(
            f"{name}: {_describe(value)}, expected H and W, two whole numbers; "
            "a line scan takes no mask"
        )
    height, width = value
    if height < 0 or width < 0:
        raise ValueError(f"{name}: {tuple(value)}, expected H and W of at least 0")
    return height, width


def refuse_others(module: str, others: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuse arguments of other attention modules, unless they are None or False.

    Args:
        module: name of the module that was called.
        others: positional arguments after x and size.
        options: keyword arguments other than x and size.

    Raises:
        TypeError: one has a value; the message names it.
    """
    named = [f"argument {number}" for number, value in enumerate(others, 3) if value is not None]
    named += [name for name, value in options.items() if value is not None and value is not False]
    if named:
        raise TypeError(
            f"{module} takes x and size, not {', '.join(named)}: "
            "every position reaches every other through scans, without masks, "
            "positional embeddings or attention weights"
        )


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number: of Python, of NumPy, or symbolic."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, torch.SymInt, numbers.Integral))


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return repr(value)
