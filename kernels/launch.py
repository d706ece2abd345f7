"""What the launchers of several rungs share: arrays in order, sizes of blocks, limits of a grid."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch

from gspn2bench.kernels.contract import Operands
from gspn2bench.kernels.jit import WARP, Array, flat
from gspn2bench.problem import ScanProblem

MAX_THREADS: Final = 1024
"""Threads of a block."""
MAX_GRID: Final = 2**31 - 1
"""Blocks of a grid along x: enough for every case that fits a GPU, in one launch."""
MAX_LINE: Final = 48 * 1024 // (2 * 4) - 2
"""Positions of the longest line whose float32 values a block holds twice in 48 KB of shared memory,
each copy between two zeros."""


_POISONED: Final = ContextVar("poisoned", default=True)


def forward_arrays(operands: Operands, word_bytes: int | None = None) -> list[Array]:
    """x, lam, wl, wm, wr, h: the order in which every forward kernel takes them, flat.

    Args:
        operands: of the case.
        word_bytes: as ``jit.flat`` has it.

    Raises:
        ValueError: a tensor begins where no word of that size can be loaded.
    """
    return _flat(operands, ("x", "lam", "w", "h"), word_bytes)


def backward_arrays(operands: Operands, word_bytes: int | None = None) -> list[Array]:
    """The arrays of every backward kernel, flat; the arguments and errors are forward's.

    grad_h, x, lam, wl, wm, wr, h are read; grad_x, grad_lam, grad_wl, grad_wm, grad_wr are
    written.
    """
    inputs, outputs = ("grad_h", "x", "lam", "w", "h"), ("grad_x", "grad_lam", "grad_w")
    return _flat(operands, (*inputs, *outputs), word_bytes)


def _flat(operands: Operands, names: Sequence[str], word_bytes: int | None) -> list[Array]:
    arrays = []
    for name in names:
        tensor = getattr(operands, name)
        if word_bytes is not None and tensor.data_ptr() % word_bytes:
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)}, whose memory begins at no multiple of "
                f"{word_bytes} bytes"
            )
        planes = tensor if name in ("w", "grad_w") else (tensor,)
        arrays += [flat(plane, word_bytes) for plane in planes]
    return arrays


def scratch(operands: Operands, elements: int) -> Array:
    """Float32 values that a call writes, then reads."""
    return flat(scratch_tensor(operands.x, (elements,), torch.float32))


def scratch_tensor(
    like: torch.Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Memory that a call writes, then reads; NaN at first, so that an early read shows.

    Args:
        like: tensor whose device and, where it is not given, type are taken.
        shape: of the tensor.
        dtype: of the tensor.
    """
    made = like.new_empty(tuple(shape), dtype=dtype)
    return made.fill_(torch.nan) if _POISONED.get() else made


@contextmanager
def unpoisoned() -> Iterator[None]:
    """Within it scratch holds whatever was there: no launches to fill it, for calls bound once."""
    token = _POISONED.set(False)
    try:
        yield
    finally:
        _POISONED.reset(token)


def registers_of(threads: int) -> int:
    """Registers a thread may use so that a block of so many threads fits a multiprocessor.

    A multiprocessor's 65,536 lie in four parts; a warp's, in units of 8 a thread, come from one.
    """
    warps_a_part = -(-threads // (4 * WARP))
    return min(255, 65_536 // 4 // (warps_a_part * WARP) // 8 * 8)


MAX_REGISTERS: Final = registers_of(MAX_THREADS)
"""Registers a thread may use in a block of any size."""


def whole_warps(threads: int) -> int:
    """Threads of a block, rounded up to whole warps, at most MAX_THREADS."""
    return min(MAX_THREADS, -(-threads // WARP) * WARP)


def beyond_grid(problem: ScanProblem) -> str | None:
    """Why a block for every slice and chunk is too many, or None."""
    blocks = problem.slices * problem.chunks
    if blocks > MAX_GRID:
        return f"batch * channels * chunks: {blocks} is above {MAX_GRID}, the largest grid"
    return None


def beyond_line(problem: ScanProblem) -> str | None:
    """Why two lines of the problem do not fit shared memory, or None."""
    if problem.line > MAX_LINE:
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {MAX_LINE}, two lines in 48 KB of shared memory"
    return None
