"""The scan on a GPU: the kernels of a rung, launched on torch's tensors and current stream.

Modules that import numba are imported when the first scan runs on a GPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from gspn2bench.kernels.contract import Operands
from gspn2bench.ops.check import each, shares_weights
from gspn2bench.ops.weights import weights_of
from gspn2bench.problem import Direction, Phase, ScanProblem

Scan = tuple[Direction, Operands]


def forward(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
    logits: bool = False,
) -> Tensor:
    """H of one scan, or of four that run concurrently; arguments as ``library.scan``.

    Logits are normalized by the kernels of a rung that supports it, otherwise by torch. Nothing is
    launched for a tensor without elements.

    Raises:
        ValueError: the rung does not support the arguments.
    """
    if lam.numel() == 0:
        return lam.new_empty(lam.shape)
    if logits and not _takes_logits(rung):
        w, logits = weights_of(w, direction), False
    x, lam, w = (tensor.contiguous() for tensor in (x, lam, w))
    h = torch.empty_like(lam)
    scans = [(towards, Operands(x, *own)) for towards, own in each(direction, lam, w, h)]
    _run("forward", scans, shares_weights(w, direction), chunk, rung, logits)
    return h


def backward(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: str,
    chunk: int | None,
    rung: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (one per scan, shaped like lam), of lam and of w.

    Raises:
        ValueError: the rung does not support the arguments.
    """
    if lam.numel() == 0:
        return lam.new_zeros(lam.shape), lam.new_zeros(lam.shape), w.new_zeros(w.shape)
    grad_h, x, lam, w, h = (tensor.contiguous() for tensor in (grad_h, x, lam, w, h))
    grad_x, grad_lam, grad_w = (torch.empty_like(tensor) for tensor in (lam, lam, w))
    tensors = (lam, w, h, grad_h, grad_x, grad_lam, grad_w)
    scans = [(towards, Operands(x, *own)) for towards, own in each(direction, *tensors)]
    _run("backward", scans, shares_weights(w, direction), chunk, rung)
    return grad_x, grad_lam, grad_w


def _takes_logits(rung: str) -> bool:
    from gspn2bench.kernels.ladder import LADDER

    return LADDER[rung].takes_logits


def _run(
    phase: Phase,
    scans: Sequence[Scan],
    shared: bool,
    chunk: int | None,
    rung_id: str,
    logits: bool = False,
) -> None:
    with _device_of(scans[0][1].x):
        from gspn2bench.kernels.ladder import LADDER
        from gspn2bench.kernels.operand_arrays import unpoisoned
        from gspn2bench.kernels.streams import side_by_side

        rung = LADDER[rung_id]
        sizes = scans[0][1].x.shape, scans[0][1].x.dtype
        with unpoisoned():
            calls = [
                rung.bind(_problem(phase, direction, *sizes, shared, chunk, logits), operands)
                for direction, operands in scans
            ]
        call = calls[0] if len(calls) == 1 else side_by_side(calls)
        call()


@cache
def _problem(
    phase: Phase,
    direction: Direction,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    shared: bool,
    chunk: int | None,
    logits: bool,
) -> ScanProblem:
    batch, channels, height, width = shape
    steps = height if direction in ("down", "up") else width
    return ScanProblem(
        batch,
        channels,
        height,
        width,
        dtype=str(dtype).removeprefix("torch."),  # type: ignore[arg-type]
        direction=direction,
        chunk=None if chunk is None else min(chunk, steps),
        weights="shared" if shared else "channel",
        phase=phase,
        logits=logits,
    )


@contextmanager
def _device_of(tensor: Tensor) -> Iterator[None]:
    """Make the tensor's GPU the current one, for torch and numba."""
    if tensor.device.type != "cuda":  # the simulator in tests
        yield
        return
    from gspn2bench.kernels.jit import SIMULATED

    if SIMULATED:
        raise ValueError(
            f"x: on {tensor.device}, expected cpu: with NUMBA_ENABLE_CUDASIM=1 kernels are "
            "simulated; unset it to run on a GPU"
        )
    with torch.cuda.device(tensor.device):
        yield
