"""A kernel's arguments: the operands in the order that kernels take, and scratch memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from typing import Any, Final

import torch

from gspn2bench.kernels.contract import Operands
from gspn2bench.kernels.jit import Array, flat

_POISONED: Final = ContextVar("poisoned", default=True)


def forward_arrays(
    operands: Operands, word_bytes: int | None = None, alignment: int | None = None
) -> list[Array]:
    """x, lam, wl, wm, wr, h as flat arrays: the first arguments of every forward kernel.

    Args:
        operands: of the case.
        word_bytes: size of a word, for kernels that load several values at once; see ``jit.flat``.
        alignment: bytes of which every address must be a multiple; by default those of a word.

    Raises:
        ValueError: a tensor's memory does not begin at such a multiple.
    """
    return _flat(operands, ("x", "lam", "w", "h"), word_bytes, alignment)


def backward_arrays(
    operands: Operands, word_bytes: int | None = None, alignment: int | None = None
) -> list[Array]:
    """The first arguments of every backward kernel; parameters and errors as ``forward_arrays``.

    grad_h, x, lam, wl, wm, wr and h are read; grad_x, grad_lam, grad_wl, grad_wm and grad_wr are
    written.
    """
    inputs, outputs = ("grad_h", "x", "lam", "w", "h"), ("grad_x", "grad_lam", "grad_w")
    return _flat(operands, (*inputs, *outputs), word_bytes, alignment)


def _flat(
    operands: Operands, names: Sequence[str], word_bytes: int | None, alignment: int | None
) -> list[Array]:
    arrays, alignment = [], alignment or word_bytes or 1
    for name in names:
        tensor = getattr(operands, name)
        if tensor.data_ptr() % alignment:
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)} at an address that is not a multiple of "
                f"{alignment} bytes"
            )
        planes = tensor if name in ("w", "grad_w") else (tensor,)
        arrays += [flat(plane, word_bytes) for plane in planes]
    return arrays


def of_images(operands: Operands, images: range) -> Operands:
    """The operands of some adjacent images, as views; w and grad_w are then not contiguous.

    Args:
        operands: of the case.
        images: their numbers.
    """
    tensors: dict[str, Any] = {}
    for field in fields(operands):
        tensor = getattr(operands, field.name)
        axis = 1 if field.name in ("w", "grad_w") else 0
        tensors[field.name] = (
            None if tensor is None else tensor.narrow(axis, images.start, len(images))
        )
    return Operands(**tensors)


def scratch(operands: Operands, elements: int) -> Array:
    """Float32 memory that a call writes, then reads."""
    return flat(scratch_tensor(operands.x, (elements,), torch.float32))


def scratch_traffic(elements: int) -> int:
    """Bytes that a call moves through ``scratch``: every element written once and read once."""
    return 2 * 4 * elements


def scratch_tensor(
    like: torch.Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Memory that a call writes, then reads; filled with NaN, which exposes a read before a write.

    Args:
        like: tensor that gives the device, and the type if ``dtype`` is None.
        shape: of the new tensor.
        dtype: of the new tensor.
    """
    tensor = like.new_empty(tuple(shape), dtype=dtype)
    return tensor.fill_(torch.nan) if _POISONED.get() else tensor


@contextmanager
def unpoisoned() -> Iterator[None]:
    """Leave scratch memory unfilled inside the context: saves a launch in a call made only once."""
    token = _POISONED.set(False)
    try:
        yield
    finally:
        _POISONED.reset(token)
