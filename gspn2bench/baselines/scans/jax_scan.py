"""The scan as jax.lax.scan, compiled by XLA. Forward only; jax is an optional extra.

Idea: the loop is part of the compiled program; a step is one line of all images, channels and
    chunks.
In a call: lax.scan wants the scanned axis first (scan-major), so that x, lam and w are transposed
    into that layout and h out of it, which is compiled and counted with the rest. jax takes torch's
    memory as it is (DLPack); its result is new memory, and is copied into h. jax has streams of its
    own, so the call waits until all is done.
Source: jax.lax.scan, not unrolled.
"""

import os
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch.utils.dlpack import from_dlpack

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.ops.lines import Lines
from gspn2bench.problem import ScanProblem

INSTALL: Final = "pip install 'jax[cuda13]' (with a GPU) or jax (without)"


def supports(problem: ScanProblem) -> str | None:  # noqa: ARG001
    """Why jax can't run it: it is not there."""
    return None if find_spec("jax") else f"jax is not installed; {INSTALL}"


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the compiled scan.

    Raises:
        RuntimeError: jax sees no GPU, and the operands are on one.
    """
    scan = partial(_compiled(), lines=Lines.of(operands.x, problem.direction, problem.chunk))
    inputs = (operands.x, operands.lam, operands.w)
    if operands.x.is_cuda:
        _check_gpu()

    import jax

    def call() -> None:
        h = scan(*map(jax.dlpack.from_dlpack, inputs)).block_until_ready()
        operands.h.copy_(from_dlpack(h))
        if operands.h.is_cuda:  # jax may give h's memory to the next call once h is gone
            torch.cuda.current_stream().synchronize()

    return call


@cache
def _compiled() -> Callable[..., Any]:
    """The scan under jax.jit, once a process: it compiles once for each kind of operands."""
    # torch has its part of the memory; jax would take three quarters of it when it starts
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    compiled: Callable[..., Any] = jax.jit(_scan, static_argnames="lines")
    return compiled


def _check_gpu() -> None:
    import jax

    try:
        jax.devices("cuda")
    except RuntimeError as error:
        raise RuntimeError(f"jax sees no GPU; {INSTALL}") from error


def _scan(x: Any, lam: Any, w: Any, lines: Lines) -> Any:
    """h, like x, (N, C, H, W)."""
    import jax
    import jax.numpy as jnp

    def take(planes: Any) -> Any:
        """(..., H, W) to (length, chunks, ..., positions), float32; a short chunk ends in zeros."""
        major = jnp.moveaxis(planes.astype(jnp.float32), lines.axis, 0)
        major = jnp.flip(major, 0) if lines.reverse else major
        missing = -lines.steps % lines.length
        major = jnp.pad(major, ((0, missing), *((0, 0),) * (major.ndim - 1)))
        return major.reshape(-1, lines.length, *major.shape[1:]).swapaxes(0, 1)

    def put(major: Any) -> Any:
        planes = major.swapaxes(0, 1).reshape(-1, *major.shape[2:])[: lines.steps]
        return jnp.moveaxis(jnp.flip(planes, 0) if lines.reverse else planes, 0, lines.axis)

    def step(before: Any, line: tuple[Any, Any]) -> tuple[Any, Any]:
        drive, weight = line
        near = jnp.pad(before, ((0, 0), (0, 0), (0, 0), (1, 1)))
        sides = (weight[:, k] * near[..., k : k + drive.shape[-1]] for k in range(3))
        h = sum(sides, start=drive)
        return h, h

    drive = take(lam) * take(x)
    weights = take(w if w.ndim == 5 else w[:, :, None])
    _, h = jax.lax.scan(step, jnp.zeros_like(drive[0]), (drive, weights))
    return put(h).astype(x.dtype)


PEER: Final = Rung(
    id="jax_scan",
    title="jax scan",
    idea="jax.lax.scan, compiled by XLA; the transposes to scan-major and back are in the call.",
    source="jax.lax.scan",
    native="down",
    forward=forward,
    launches=None,
    supports=supports,
    not_in_graphs="jax runs on streams of its own and waits for them, which a graph can't hold",
)
