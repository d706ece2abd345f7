"""The scan as jax.lax.scan, compiled by XLA. Forward only; jax is an optional extra.

Idea: the loop is part of the compiled program. One step computes one line of all images, channels
    and chunks.
In a call: lax.scan needs the scanned axis first (scan-major). The call therefore transposes x, lam
    and w into that layout and h out of it; both are part of the compiled program. jax reads torch's
    memory through DLPack without a copy. Its result is in new memory and is copied into h. jax uses
    its own streams, so the call waits until the result is complete.
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


def unsupported_reason(problem: ScanProblem) -> str | None:  # noqa: ARG001
    """Why jax can't run the problem: jax is not installed; None if it is."""
    return None if find_spec("jax") else f"jax is not installed; {INSTALL}"


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the compiled scan.

    Raises:
        RuntimeError: the operands are on a GPU and jax finds none.
    """
    scan = partial(_compiled(), lines=Lines.of(operands.x, problem.direction, problem.chunk))
    inputs = (operands.x, operands.lam, operands.w)
    if operands.x.is_cuda:
        _check_gpu()

    import jax

    def call() -> None:
        h = scan(*map(jax.dlpack.from_dlpack, inputs)).block_until_ready()
        operands.h.copy_(from_dlpack(h))
        if operands.h.is_cuda:  # jax may reuse the memory of h once h is deleted
            torch.cuda.current_stream().synchronize()

    return call


@cache
def _compiled() -> Callable[..., Any]:
    """The scan under jax.jit, made once per process; jax compiles it for each kind of operands."""
    # otherwise jax would allocate three quarters of the GPU's memory, which torch needs too
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    compiled: Callable[..., Any] = jax.jit(_scan, static_argnames="lines")
    return compiled


def _check_gpu() -> None:
    import jax

    try:
        jax.devices("cuda")
    except RuntimeError as error:
        raise RuntimeError(f"jax finds no GPU; {INSTALL}") from error


def _scan(x: Any, lam: Any, w: Any, lines: Lines) -> Any:
    """Compute h, (N, C, H, W), in the type of x."""
    import jax
    import jax.numpy as jnp

    def take(planes: Any) -> Any:
        """Convert (..., H, W) to (length, chunks, ..., positions), float32.

        A last, shorter chunk is padded with zeros.
        """
        major = jnp.moveaxis(planes.astype(jnp.float32), lines.axis, 0)
        major = jnp.flip(major, 0) if lines.reverse else major
        missing = -lines.steps % lines.length
        major = jnp.pad(major, ((0, missing), *((0, 0),) * (major.ndim - 1)))
        return major.reshape(-1, lines.length, *major.shape[1:]).swapaxes(0, 1)

    def put(major: Any) -> Any:
        planes = major.swapaxes(0, 1).reshape(-1, *major.shape[2:])[: lines.steps]
        return jnp.moveaxis(jnp.flip(planes, 0) if lines.reverse else planes, 0, lines.axis)

    def step(previous: Any, line: tuple[Any, Any]) -> tuple[Any, Any]:
        drive, weight = line
        padded = jnp.pad(previous, ((0, 0), (0, 0), (0, 0), (1, 1)))
        products = (weight[:, k] * padded[..., k : k + drive.shape[-1]] for k in range(3))
        h = sum(products, start=drive)
        return h, h

    drive = take(lam) * take(x)
    weights = take(w if w.ndim == 5 else w[:, :, None])
    _, h = jax.lax.scan(step, jnp.zeros_like(drive[0]), (drive, weights))
    return put(h).astype(x.dtype)


RUNG: Final = Rung(
    id="jax_scan",
    title="jax scan",
    idea="jax.lax.scan, compiled by XLA; the call includes the transposes to scan-major and back.",
    source="jax.lax.scan",
    native="down",
    forward=forward,
    launches=None,
    unsupported_reason=unsupported_reason,
    graph_unsupported_reason=(
        "jax runs on streams of its own and waits for them, which a graph can't hold"
    ),
)
