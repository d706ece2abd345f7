"""r09 quad: four directions in one launch, without transposed copies.

Idea: the direction is an axis of the grid. A block processes its scan in tiles of a few lines. The
lines are rows for "down" and "up", and columns for "right" and "left". All threads load a tile in
words, in the order of memory. They normalize the logits, multiply lam by x, and write float32
values to shared memory line by line, in every direction alike. Then each thread of the walk
computes a few positions of every line, while the words of the next tile are being loaded into
registers. Finally all threads write the tile to memory in words. Only the position of an element
in shared memory depends on the direction.

Channels that share their weights are walked side by side in one block, so a tile of weights is
loaded and normalized once for all of them. Backward sums their weight gradients on chip. A second
launch adds the sums of several blocks if one block does not have all channels.

A cluster of blocks divides long lines: see edges.py.

A call can also multiply by u. Forward then writes u h, and h only if backward needs it. Backward
takes the gradient of u h, and returns those of u and of the logits. Forward can add a bias to its
inputs, so a product that computes them needs none.

Changes since r07: one launch in place of four and up to 24 transposes. The walk reads shared memory
instead of registers. Lines of up to 128 positions are walked by one warp, without a barrier.

Expect: launches 1. There are no transposes. On small maps the time is one memory latency, the
normalization, and about 60 cycles per line.

Source: ours. Independent directions: arXiv 2512.07884, section 3.3, which runs them on streams.
"""

from collections.abc import Callable
from typing import Final

import torch

from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.four import FourCall, FourKernels, FourOperands, FourProblem
from gspn2bench.kernels.jit import ArrayType, prepare_launch, word_type
from gspn2bench.kernels.launch_limits import grid_limit_reason
from gspn2bench.kernels.operand_arrays import scratch_tensor, scratch_traffic
from gspn2bench.kernels.r09_quad.backward import build_backward
from gspn2bench.kernels.r09_quad.configuration import Config, blocks, choose, shared_floats
from gspn2bench.kernels.r09_quad.forward import build_forward
from gspn2bench.kernels.r09_quad.weight_gradient import SUM_THREADS, build_weight_gradient
from gspn2bench.problem import ScanProblem, ceil_div

MAX_LINE: Final = 4096
"""Longest line, in positions: a tile of one line with its weights fits in shared memory."""


def prepare(problem: FourProblem, config: Config | None = None) -> FourCall:
    """Compile the kernels of a problem. The returned call takes the tensors.

    Args:
        problem: what to compute.
        config: the constants to compile with; None: those of ``choose``.
    """
    config = config or choose(problem)
    return _forward(problem, config) if problem.phase == "forward" else _backward(problem, config)


def _forward(problem: FourProblem, config: Config) -> FourCall:
    x, data, weights = _array_types(problem, config)
    bias = ArrayType(word_type(getattr(torch, problem.scan.dtype)), biases_of(problem))
    arrays = [x, data, weights, data, data, data, bias]
    launch = _scan(problem, config, build_forward(config), arrays)

    def call(four: FourOperands) -> None:
        lam = four.lam  # stands for a tensor that is None, which the kernel does not access
        others = (four.u, four.h, four.y, four.bias)
        launch(four.x, lam, four.w, *(lam if tensor is None else tensor for tensor in others))

    return call


def _backward(problem: FourProblem, config: Config) -> FourCall:
    x, data, weights = _array_types(problem, config)
    dtype = getattr(torch, problem.scan.dtype)
    single_values = ArrayType(word_type(dtype), data.elements * config.pack)
    partial = groups_of(problem, config) > 1
    sums = ArrayType(torch.float32, sums_of(problem, config)) if partial else weights
    reads = [data, x, data, weights, data, data, single_values]
    compiled = build_backward(config, partial)
    launch = _scan(problem, config, compiled, [*reads, data, data, data, sums])
    add_groups = _weight_gradient(problem, config) if partial else None

    def call(four: FourOperands) -> None:
        lam, h = four.lam, four.h
        u, grad_u = (lam if tensor is None else tensor for tensor in (four.u, four.grad_u))
        reads = (four.grad, four.x, lam, four.w, h, u, h)
        target = four.scratch if partial else four.grad_w
        launch(*reads, four.grad_x, four.grad_lam, grad_u, target)
        if add_groups is not None:
            add_groups(four.scratch, four.w, four.grad_w)

    return call


def _scan(
    problem: FourProblem, config: Config, compiled: object, arrays: list[ArrayType]
) -> Callable[..., None]:
    """The launch of the scans: a block per image, chunk, direction, group of channels and part."""
    scan, shared = problem.scan, config.shared
    chunk = problem.steps if scan.chunk is None else scan.chunk
    chunks = ceil_div(problem.steps, chunk)
    groups = scan.channels // config.group
    image_step, channel_step = scan.channels, 1
    if problem.channels_outermost:
        image_step, channel_step = 1, scan.batch
    sets = scan.batch if shared else scan.slices
    steps = (image_step, channel_step, sets, 1)
    return prepare_launch(
        compiled,
        blocks(problem, config),
        config.threads,
        arrays,
        (scan.slices, groups, *steps, chunk, chunks),
        shared_bytes=4 * shared_floats(config, scan.phase),
        cluster=config.parts,
    )


def _weight_gradient(problem: FourProblem, config: Config) -> Callable[..., None]:
    """The launch that adds the weight gradients of the groups of channels."""
    scan, dtype = problem.scan, word_type(getattr(torch, problem.scan.dtype))
    compiled = build_weight_gradient(scan.dtype, problem.logits, problem.first)
    positions = config.directions * scan.batch * scan.plane
    weights = ArrayType(dtype, 3 * positions)
    groups = groups_of(problem, config)
    return prepare_launch(
        compiled,
        ceil_div(positions, SUM_THREADS),
        SUM_THREADS,
        [ArrayType(torch.float32, groups * weights.elements), weights, weights],
        (scan.height, scan.width, scan.batch, config.directions, groups),
    )


def biases_of(problem: FourProblem) -> int:
    """Values of ``FourOperands.bias``; 0 without a bias."""
    if not problem.with_bias:
        return 0
    channels, count = problem.scan.channels, len(problem.directions)
    sets = 1 if problem.scan.weights == "shared" else channels
    return channels + 2 * count * channels + 3 * count * sets


def groups_of(problem: FourProblem, config: Config) -> int:
    """Blocks whose sums of weight gradients are added by a second launch; 1 if there is none."""
    return problem.scan.channels // config.group if config.shared else 1


def sums_of(problem: FourProblem, config: Config) -> int:
    """Float32 values of the sums of all groups; 0 if no second launch adds them."""
    groups = groups_of(problem, config)
    positions = config.directions * problem.scan.batch * problem.scan.plane
    return groups * 3 * positions if groups > 1 and problem.phase == "backward" else 0


def scratch(problem: FourProblem) -> int:
    """Float32 values of scratch memory: the sums of weight gradients of all groups."""
    return sums_of(problem, choose(problem))


def _array_types(problem: FourProblem, config: Config) -> tuple[ArrayType, ArrayType, ArrayType]:
    """Types of x; of lam and the tensors like it; and of the weights."""
    scan = problem.scan
    word = word_type(getattr(torch, scan.dtype), config.word_bytes)
    words = scan.slices * scan.plane // config.pack
    sets = scan.batch if config.shared else scan.slices
    weight_words = config.directions * 3 * sets * scan.plane // config.pack
    return (
        ArrayType(word, words),
        ArrayType(word, config.directions * words),
        ArrayType(word, weight_words),
    )


def bind(problem: ScanProblem, operands: Operands) -> Call:
    """One direction: the same kernels, with one direction in the grid."""
    one = FourProblem.of_scan(problem)
    call = prepare(one)
    four = FourOperands(
        operands.x,
        operands.lam[None],
        operands.w[None],
        h=operands.h[None],
        grad=operands.grad_h,
        grad_x=operands.grad_x,
        grad_lam=operands.grad_lam,
        grad_w=None if operands.grad_w is None else operands.grad_w[None],
        scratch=scratch_tensor(operands.x, (scratch(one),), torch.float32),
    )
    return lambda: call(four)


def launches(problem: FourProblem) -> int:
    """One, and one more if several blocks share the sums of weight gradients."""
    return 2 if scratch(problem) else 1


def traffic(problem: FourProblem) -> int:
    """The bytes of every scan, and the sums of weight gradients if a second launch adds them.

    Every scan reads x.
    """
    moved = len(problem.directions) * compulsory_traffic(problem.scan)
    return moved + scratch_traffic(scratch(problem))


def unsupported_reason(problem: ScanProblem) -> str | None:
    """Why the kernels cannot run a problem: its lines are too long; None if they can."""
    if problem.line > MAX_LINE:
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {MAX_LINE}, the longest line of a tile"
    return grid_limit_reason(problem)


RUNG: Final = Rung(
    id="r09",
    title="quad",
    idea="four directions in one launch; tiles in shared memory, no transposes",
    source="ours",
    native="down",
    forward=bind,
    backward=bind,
    four=FourKernels(prepare, launches, traffic, scratch),
    launches=lambda problem: launches(FourProblem.of_scan(problem)),
    unsupported_reason=unsupported_reason,
    traffic=lambda problem: traffic(FourProblem.of_scan(problem)),
    takes_logits=True,
)
