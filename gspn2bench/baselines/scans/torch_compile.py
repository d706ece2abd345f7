"""The loop over lines under torch.compile.

Idea: Inductor compiles a line into one kernel, where eager torch launches three. No Python runs
    between the lines of a block.
In a call: one compiled function lays out the inputs line by line in float32. A second one computes
    LINES lines and is called once per block. A third one puts the result back into planes.
Choice of LINES: a graph of all lines is unrolled, and 1024 lines take minutes to compile. A step
    compiled alone pays for the guards of a compiled function at every line. A block of 16 lines
    compiles in seconds, and once more for a last, shorter block. Its lines are new tensors, because
    Inductor copies lines that are written in place. Shapes are static (``dynamic=False``): only the
    first call of a case compiles, and ``compile_s`` is its time.
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
"""Lines in a compiled block."""
BACKEND: Final = "inductor"


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the blocks of lines from first to last."""
    lines = Lines.of(operands.x, problem.direction, problem.chunk)
    lay_out, advance, put = _compiled(_lay_out), _compiled(_advance), _compiled(_put)

    def call() -> None:
        drive, weights = lay_out(lines, operands.x, operands.lam, operands.w)
        previous, blocks = torch.zeros_like(drive[0]), []
        for i in range(0, lines.length, LINES):
            blocks.append(advance(previous, drive[i : i + LINES], weights[i : i + LINES]))
            previous = blocks[-1][-1]
        put(lines, torch.cat(blocks), operands.h)

    return call


def backward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the blocks of lines from last to first, then the gradients of the inputs."""
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
    """Compile a function once per process; its compiled variants are reused."""
    return compile_static(function, BACKEND)


def _lay_out(lines: Lines, x: Tensor, lam: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out the drive, lam x, and the weights line by line, in float32.

    Returns:
        The drive, (length, chunks, N, C, positions), and the weights, (length, chunks, 3, N, C or
        1, positions).
    """
    drive = lines.take(wide(lam) * wide(x)).contiguous()
    return drive, lines.take(with_channels(wide(w))).contiguous()


def _advance(h: Tensor, drive: Tensor, weights: Tensor) -> Tensor:
    """Compute the lines of h of one block.

    Args:
        h: the line before the block.
        drive: of the block's lines.
        weights: of the block's lines.
    """
    block = []
    for line, weight in zip(drive, weights, strict=True):
        padded = between_zeros(h)
        h = line
        for k in range(3):
            h = h + weight[:, k] * padded[..., k : k + line.shape[-1]]
        block.append(h)
    return torch.stack(block)


def _put(lines: Lines, h: Tensor, out: Tensor) -> None:
    out.copy_(lines.put(h))


def _lay_out_gradient(lines: Lines, grad_h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out grad_h and the weights as ``_lay_out`` does."""
    grads = lines.take(wide(grad_h)).contiguous()
    return grads, lines.take(with_channels(wide(w))).contiguous()


def _retreat(carried: Tensor, grads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the total gradient of h for one block of lines.

    Args:
        carried: the part of the gradient of the block's last line that comes from the line after
            the block.
        grads: grad_h of the block's lines.
        weights: of the block's lines.

    Returns:
        The total gradient of each line, and the part that is carried to the line before the block.
    """
    block = []
    for grad, weight in zip(grads.unbind()[::-1], weights.unbind()[::-1], strict=True):
        total = grad + carried
        left, middle, right = (weight[:, k] * total for k in range(3))
        # h[i, p] reads h[i-1, p-1] with weight wl and h[i-1, p+1] with weight wr. The gradient of
        # h[i-1, p] therefore takes the wl term from position p+1 and the wr term from p-1.
        carried = F.pad(left, (0, 1))[..., 1:] + middle + F.pad(right, (1, 0))[..., :-1]
        block.append(total)
    return torch.stack(block[::-1]), carried


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
    gradients = cpu.gradients(lines, g, x, lam, w, h)
    for output, gradient in zip((grad_x, grad_lam, grad_w), gradients, strict=True):
        output.copy_(gradient)


RUNG: Final = Rung(
    id="torch_compile",
    title="torch compile",
    idea=f"The same loop under torch.compile: one kernel per line, in blocks of {LINES} lines.",
    source="torch.compile, default mode",
    native="down",
    forward=forward,
    backward=backward,
    launches=None,
)
