"""Checks of a scan's arguments, made before anything is launched.

Sizes may be symbolic (torch.compile, torch.export). The checks therefore never convert a size to an
int, and never compare two sizes that a valid call leaves independent of each other: each such
comparison would become a guard, and the program would be specialized or recompiled.
"""

from typing import Any, Final, cast

import torch
from torch import Tensor

from gspn2bench.problem import DIRECTIONS, DTYPES, Direction

ALL: Final = "all"
"""All four directions, in the order of DIRECTIONS; lam, w and h then have a leading axis of 4."""

AUTO: Final = "auto"
"""In place of a rung: the one that is fastest at the sizes of the call, by our measurements."""

_CPU_DTYPES: Final = (*DTYPES, "float64")


def check_kinds(
    x: object,
    lam: object,
    w: object,
    direction: object,
    chunk: object,
    rung: object,
    logits: object,
) -> None:
    """Check the Python types of the arguments.

    Raises:
        ValueError: an argument has the wrong type; the message names it and says what was expected.
    """
    for name, value in (("x", x), ("lam", lam), ("w", w)):
        check_tensor(name, value)
    for name, value in (("direction", direction), ("rung", rung)):
        if not isinstance(value, str):
            raise ValueError(f"{name}: {value!r}, expected a string")
    if isinstance(chunk, bool) or not isinstance(chunk, (int, torch.SymInt, type(None))):
        raise ValueError(f"chunk: {chunk!r} is not a whole number")
    if not isinstance(logits, bool):
        raise ValueError(f"logits: {logits!r} is neither True nor False")


def check_keep_every(lines: object, name: str = "keep_every") -> None:
    """Check the distance of the lines of h that are kept for backward.

    Args:
        lines: the distance.
        name: of the argument, for the message.

    Raises:
        ValueError: it is not a whole number from 1, "auto" or None.
    """
    if lines is None or lines == "auto":
        return
    if isinstance(lines, bool) or not isinstance(lines, (int, torch.SymInt)):
        raise ValueError(f"{name}: {lines!r} is not a whole number, 'auto' or None")
    if lines < 1:
        raise ValueError(f"{name}: {lines} is below 1")


def check_tensor(name: str, value: object) -> None:
    """Check that an argument is a tensor.

    Raises:
        ValueError: it is not; the message names it.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: {type(value).__name__}, expected a torch.Tensor")


def check(x: Tensor, lam: Tensor, w: Tensor, direction: str, chunk: int | None, rung: str) -> None:
    """Check shapes, types and devices of the arguments. A size may be 0.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    if direction != ALL:
        _check_direction(direction)
    if x.dim() != 4:
        raise ValueError(f"x: shape {_show(x.shape)}, expected four sizes, (N, C, H, W)")
    leading = (4,) if direction == ALL else ()
    batch, _, *plane = x.shape
    _check_shape("lam", lam, (*leading, *x.shape))
    _check_shape("w", w, (*leading, 3, *x.shape), (*leading, 3, batch, *plane))
    _check_dtypes(x, lam, w)
    for name, tensor in (("lam", lam), ("w", w)):
        if tensor.device != x.device:
            raise ValueError(f"{name}: on {tensor.device}, expected {x.device}, as x")
    if chunk is not None:
        _check_chunk(chunk, direction, *plane)
    if x.device.type == "cuda":
        _check_rung(rung)


def check_like(name: str, tensor: Tensor, lam: Tensor) -> None:
    """Check that u, h or the gradient of h has the shape, type and device of lam.

    Raises:
        ValueError: it does not; the message names it and says what was expected.
    """
    _check_shape(name, tensor, tuple(lam.shape))
    if tensor.dtype != lam.dtype or tensor.device != lam.device:
        raise ValueError(
            f"{name}: {tensor.dtype} on {tensor.device}, expected {lam.dtype} on {lam.device}, "
            "as lam"
        )


def check_bias(bias: Tensor, x: Tensor, w: Tensor) -> None:
    """Check the bias of four scans: of x, lam, u and w, channel by channel.

    Raises:
        ValueError: it is invalid; the message names it and says what was expected.
    """
    channels = x.shape[1]
    sets = 1 if shares_weights(w, ALL) else channels
    _check_shape("bias", bias, (9 * channels + 12 * sets,))
    if bias.dtype != x.dtype or bias.device != x.device or not bias.is_contiguous():
        raise ValueError(
            f"bias: {bias.dtype} on {bias.device}, expected {x.dtype} on {x.device}, contiguous"
        )


def split_bias(bias: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The biases of x, lam, u and w, in shapes that broadcast to these tensors."""
    channels = x.shape[1]
    shared = shares_weights(w, ALL)
    sizes = [channels, 4 * channels, 4 * channels, 12 if shared else 12 * channels]
    of_x, of_lam, of_u, of_w = bias.split_with_sizes(sizes)
    return (
        of_x.view(1, channels, 1, 1),
        of_lam.view(4, 1, channels, 1, 1),
        of_u.view(4, 1, channels, 1, 1),
        of_w.view(4, 3, 1, 1, 1) if shared else of_w.view(4, 3, 1, channels, 1, 1),
    )


def shares_weights(w: Tensor, direction: str) -> bool:
    """Whether the channels share one set of weights: (3, N, H, W), not (3, N, C, H, W)."""
    return w.dim() == (5 if direction == ALL else 4)


def each(direction: str, *tensors: Tensor) -> list[tuple[Direction, tuple[Tensor, ...]]]:
    """The scans of one call: each direction with its own part of the tensors."""
    if direction == ALL:
        parts = zip(*(tensor.unbind(0) for tensor in tensors), strict=True)
        return list(zip(DIRECTIONS, parts, strict=True))
    return [(cast(Direction, direction), tensors)]


def join(direction: str, tensors: list[Tensor]) -> Tensor:
    """The inverse of ``each``: one tensor, with a leading axis of 4 for "all"."""
    return torch.stack(tensors) if direction == ALL else tensors[0]


def _check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: {direction!r} is not one of {', '.join(DIRECTIONS)}")


def _check_shape(name: str, tensor: Tensor, *expected: tuple[int, ...]) -> None:
    # Only shapes of as many sizes are compared: tuple comparison starts with the elements.
    candidates = [shape for shape in expected if len(shape) == tensor.dim()]
    if tuple(tensor.shape) not in candidates:
        shapes = " or, shared by the channels, ".join(map(_show, expected))
        raise ValueError(f"{name}: shape {_show(tensor.shape)}, expected {shapes}")


def _check_dtypes(x: Tensor, lam: Tensor, w: Tensor) -> None:
    known = DTYPES if x.device.type == "cuda" else _CPU_DTYPES
    if str(x.dtype).removeprefix("torch.") not in known:
        raise ValueError(f"x: {x.dtype} on {x.device.type}, expected {', '.join(known)}")
    for name, tensor in (("lam", lam), ("w", w)):
        if tensor.dtype != x.dtype:
            raise ValueError(f"{name}: {tensor.dtype}, expected {x.dtype}, as x")


def _check_chunk(chunk: int, direction: str, height: int, width: int) -> None:
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} is below 1")
    if direction in ("down", "up"):
        longest = height
    elif direction in ("right", "left"):
        longest = width
    else:
        longest = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
    if chunk > longest > 0:
        raise ValueError(f"chunk: {chunk} is above the scan length, {longest}")


def _check_rung(rung: str) -> None:
    from gspn2bench.kernels.ladder import LADDER  # imports numba, which the CPU does not need

    if rung not in LADDER and rung != AUTO:
        raise ValueError(f"rung: {rung!r} is not one of {AUTO}, {', '.join(LADDER)}")


def _show(shape: Any) -> str:
    return str(tuple(shape))


def check_weight_logits(logits: object, direction: str) -> None:
    """Check shape and type of the logits of weights. A size may be 0.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    _check_direction(direction)
    if not isinstance(logits, Tensor):
        raise ValueError(f"logits: {type(logits).__name__}, expected a torch.Tensor")
    if logits.dim() not in (4, 5) or logits.shape[0] != 3:
        raise ValueError(
            f"logits: shape {_show(logits.shape)}, expected (3, N, C, H, W) or (3, N, H, W)"
        )
    if not logits.is_floating_point():
        raise ValueError(f"logits: {logits.dtype}, expected a floating-point type")


def check_expand_kinds(planes: object, weight: object, bias: object) -> None:
    """Check the Python types of the arguments of ``expand``.

    Raises:
        ValueError: an argument has the wrong type; the message names it and says what was expected.
    """
    check_tensor("planes", planes)
    check_tensor("weight", weight)
    if bias is not None and not isinstance(bias, Tensor):
        raise ValueError(f"bias: {type(bias).__name__}, expected a torch.Tensor or None")


def check_expand(planes: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check shapes, types and devices of the arguments of ``expand``. A size may be 0.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
    """
    if planes.dim() != 2:
        raise ValueError(f"planes: shape {_show(planes.shape)}, expected two sizes, (K, P)")
    known = DTYPES if planes.device.type == "cuda" else _CPU_DTYPES
    if str(planes.dtype).removeprefix("torch.") not in known:
        expected = ", ".join(known)
        raise ValueError(f"planes: {planes.dtype} on {planes.device.type}, expected {expected}")
    if weight.dim() != 2 or weight.shape[1] != planes.shape[0]:
        expected = f"(C, {planes.shape[0]}), one column per plane"
        raise ValueError(f"weight: shape {_show(weight.shape)}, expected {expected}")
    _check_as_planes("weight", weight, planes)
    if bias is not None:
        _check_shape("bias", bias, (weight.shape[0],))
        _check_as_planes("bias", bias, planes)


def _check_as_planes(name: str, tensor: Tensor, planes: Tensor) -> None:
    if tensor.dtype != planes.dtype or tensor.device != planes.device:
        raise ValueError(
            f"{name}: {tensor.dtype} on {tensor.device}, expected {planes.dtype} on "
            f"{planes.device}, as planes"
        )
