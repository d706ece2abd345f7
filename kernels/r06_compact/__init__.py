"""r06 compact: one set of weights for all channels of an image.

Idea: compact channel propagation. The three weights of a position serve every channel:
w[3, N, H, W] replaces w[3, N, C, H, W], and a scan moves 3 + 3 / C elements per position instead
of 6. The operator differs from that of r05 and has fewer weights, so the gain belongs to the
operator, not to the kernel. The slices of a block are channels of one image and chunk. They read
the same weights at the same step: the first read comes from memory, the others from the L1 cache.
Channels of the image in other blocks find the weights in the L2 cache.

Backward sums the gradient of w over the channels in a fixed order and without atomics. If the
channels of an image fill several blocks, it takes a second launch: see backward.py.

Changes since r05: the channels share the weights, and the slices of a block belong to one image.

Expect: DRAM bytes of forward fall towards a half (3 + 3 / C elements per position instead of 6).
The L1 and L2 hit rates rise with the channels. Backward with many channels makes 2 launches.

Source: arXiv 2512.07884, section 3.3 (compact channel propagation). The order of the sum is ours.
"""

import math

from gspn2bench.kernels.block_rung import plane_sizes
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import bind_launch, flat
from gspn2bench.kernels.launch_limits import grid_limit_reason, line_limit_reason
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.r06_compact import shape
from gspn2bench.kernels.r06_compact.backward import SUM_THREADS, build_backward, build_sum
from gspn2bench.kernels.r06_compact.forward import build_forward
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem, ceil_div


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    block, groups = shape.choose(problem), shape.groups_of(problem)
    grid = problem.batch * groups * problem.chunks
    sizes = (problem.channels, groups, *plane_sizes(problem))
    arrays = forward_arrays(operands)
    return bind_launch(build_forward(block), grid, (block.lanes, block.cslice), *arrays, *sizes)


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    assert operands.grad_w is not None
    block, groups = shape.choose(problem), shape.groups_of(problem)
    grid = problem.batch * groups * problem.chunks
    grad_w, elements = flat(operands.grad_w), operands.grad_w.numel()
    partial = _has_partial_sums(problem)
    sums = scratch(operands, groups * elements) if partial else grad_w
    arrays = [*backward_arrays(operands)[:-3], sums]  # the sums replace the gradients of w
    sizes = (problem.batch, problem.channels, groups, *plane_sizes(problem))
    compiled = build_backward(block, partial)
    scan = bind_launch(compiled, grid, (block.lanes, block.cslice), *arrays, *sizes)
    if not partial:
        return scan
    sum_grid, compiled_sum = ceil_div(elements, SUM_THREADS), build_sum(problem.dtype)
    add_up = bind_launch(compiled_sum, sum_grid, SUM_THREADS, sums, grad_w, groups, elements)

    def call() -> None:
        scan()
        add_up()

    return call


def _has_partial_sums(problem: ScanProblem) -> bool:
    """Whether a call leaves partial sums for a second launch."""
    return problem.phase == "backward" and shape.groups_of(problem) > 1


def launches(problem: ScanProblem) -> int:
    return 1 + _has_partial_sums(problem) + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    moved = compulsory_traffic(problem) + transposed_traffic(problem)
    if _has_partial_sums(problem):
        moved += scratch_traffic(shape.groups_of(problem) * math.prod(problem.weight_shape))
    return moved


def unsupported_reason(problem: ScanProblem) -> str | None:
    if problem.weights != "shared":
        return "weights: channel; r06 has one set for all channels of an image"
    return line_limit_reason(problem) or grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r06",
    title="compact",
    idea="one set of weights for all channels; their gradient summed over channels in order",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=transposed(bind_forward),
    launches=launches,
    backward=transposed(bind_backward),
    unsupported_reason=unsupported_reason,
    traffic=traffic,
)
