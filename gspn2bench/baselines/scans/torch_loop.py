"""The scan as a loop over lines in eager torch: the first version that a careful user writes.

Idea: one tensor holds a line of all images, channels and chunks. A step is three in-place
    multiply-adds, whatever the batch. On a GPU each of them is a launch.
In a call: the inputs are laid out line by line in float32, and the result is put back into planes
    of the storage type. Backward does the same for each gradient. torch takes the memory from its
    cache.
Source: the operator's code for CPU tensors, ``ops/cpu.py``, on the device of the operands.
"""

from typing import Final

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.ops import cpu
from gspn2bench.problem import ScanProblem


def forward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the loop from the first line to the last."""
    inputs = (operands.x, operands.lam, operands.w)

    def call() -> None:
        cpu.forward(*inputs, direction=problem.direction, chunk=problem.chunk, out=operands.h)

    return call


def backward(problem: ScanProblem, operands: Operands) -> Call:
    """Bind the loop from the last line to the first, and the gradients of the inputs."""
    grad_h, grad_x = operands.grad_h, operands.grad_x
    grad_lam, grad_w = operands.grad_lam, operands.grad_w
    assert grad_h is not None
    assert grad_x is not None
    assert grad_lam is not None
    assert grad_w is not None
    inputs = (operands.x, operands.lam, operands.w, operands.h, grad_h)
    outputs = (grad_x, grad_lam, grad_w)

    def call() -> None:
        gradients = cpu.backward(*inputs, direction=problem.direction, chunk=problem.chunk)
        for output, gradient in zip(outputs, gradients, strict=True):
            output.copy_(gradient)

    return call


RUNG: Final = Rung(
    id="torch_loop",
    title="torch loop",
    idea="A Python loop over the lines in eager torch; three launches per line.",
    source="torch, eager",
    native="down",
    forward=forward,
    backward=backward,
    launches=None,
)
