"""The loop over lines under torch.compile.

Idea: Inductor makes one kernel of a line, where eager torch launches three, and has no Python
    between the lines of a block.
In a call: one compiled function lays the inputs out line by line in float32, one computes LINES
    lines and is called for each block of them, one puts the result back into planes.
Chosen: a loop over all lines in one graph is unrolled, and 1024 lines compile for minutes; a step
    compiled alone pays for the guards of a compiled function at every line. A block of 16 lines
    compiles in seconds, and again for a last, shorter block. Its lines are new tensors: written in
    place, Inductor copies them. Shapes are static (``dynamic=False``): the first call of a case
    compiles, which is its ``compile_s``, and none after it.
Source: torch.compile, default mode (Inductor).
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gspn2bench.baselines.compile_setup import compile_static
from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.ops import cpu
from gspn2bench.ops.lines import Lines, between_zeros, wide, with_channels
from gspn2bench.problem import ScanProblem

LINES: Final = 16
"""Lines of a compiled block."""
BACKEND: Final = "inductor"


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the blocks from the first line to the last."""
    lines = Lines.of(operands.x, problem.direction, problem.chunk)
    lay_out, advance, put = _compiled(_lay_out), _compiled(_advance), _compiled(_put)

    def call() -> None:
        drive, weights = lay_out(lines, operands.x, operands.lam, operands.w)
        before, blocks = torch.zeros_like(drive[0]), []
        for i in range(0, lines.length, LINES):
            blocks.append(advance(before, drive[i : i + LINES], weights[i : i + LINES]))
            before = blocks[-1][-1]
        put(lines, torch.cat(blocks), operands.h)

    return call


def backward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the blocks from the last line to the first, and the gradients that follow from them."""
    lines = Lines.of(operands.x, problem.direction, problem.chunk)
    lay_out, retreat = _compiled(_lay_out_gradient), _compiled(_retreat)
    put = _compiled(_put_gradients)
    inputs = (operands.x, operands.lam, operands.w, operands.h)
    outputs = (operands.grad_x, operands.grad_lam, operands.grad_w)

    def call() -> None:
        grads, weights = lay_out(lines, operands.grad_h, operands.w)
        carried, blocks = torch.zeros_like(grads[0]), []
        for i in reversed(range(0, lines.length, LINES)):
            block, carried = retreat(carried, grads[i : i + LINES], weights[i : i + LINES])
            blocks.append(block)
        put(lines, torch.cat(blocks[::-1]), *inputs, *outputs)

    return call


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function under torch.compile, once a process, so that what was compiled is found again."""
    return compile_static(function, BACKEND)


def _lay_out(lines: Lines, x: Tensor, lam: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The drive, lam x, (length, chunks, N, C, positions), and w, with 3 before N (C or 1)."""
    drive = lines.take(wide(lam) * wide(x)).contiguous()
    return drive, lines.take(with_channels(wide(w))).contiguous()


def _advance(before: Tensor, drive: Tensor, weights: Tensor) -> Tensor:
    """The block's lines of h, from the line before them."""
    done = []
    for line, weight in zip(drive, weights, strict=True):
        near = between_zeros(before)
        before = line
        for k in range(3):
            before = before + weight[:, k] * near[..., k : k + line.shape[-1]]
        done.append(before)
    return torch.stack(done)


def _put(lines: Lines, h: Tensor, out: Tensor) -> None:
    out.copy_(lines.put(h))


def _lay_out_gradient(lines: Lines, grad_h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of h and w, as ``_lay_out`` has them."""
    grads = lines.take(wide(grad_h)).contiguous()
    return grads, lines.take(with_channels(wide(w))).contiguous()


def _retreat(carried: Tensor, grads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The whole gradient of a block's lines, and what they hand to the line before them.

    Args:
        carried: what the line after the block hands to its last one.
        grads: gradient of h from outside.
        weights: of the block's lines.
    """
    done = []
    for grad, weight in zip(grads.unbind()[::-1], weights.unbind()[::-1], strict=True):
        whole = grad + carried
        left, middle, right = (weight[:, k] * whole for k in range(3))
        # p took wl from p - 1, which so is handed that of p; and wr from p + 1
        carried = F.pad(left, (0, 1))[..., 1:] + middle + F.pad(right, (1, 0))[..., :-1]
        done.append(whole)
    return torch.stack(done[::-1]), carried


def _put_gradients(
    lines: Lines,
    g: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    grad_x: Tensor,
    grad_lam: Tensor,
    grad_w: Tensor,
) -> None:
    made = cpu.gradients(lines, g, x, lam, w, h)
    for output, gradient in zip((grad_x, grad_lam, grad_w), made, strict=True):
        output.copy_(gradient)


PEER: Final = Rung(
    id="torch_compile",
    title="torch compile",
    idea=f"That loop under torch.compile: one kernel a line, in blocks of {LINES} lines.",
    source="torch.compile, default mode",
    native="down",
    forward=forward,
    backward=backward,
    launches=None,
)
