"""r07 gspn2: GSPN-2, tuned to the memory roofline.

Idea: r06c waits for memory once per pass of its ring. A deeper ring divides this wait by more
lines. So the ring is as deep as the registers of a block and the storage type allow, and as the
compiler still unrolls: see configuration.py.

Also: backward; weights given as logits; lines longer than a block, whose threads own several
adjacent words; "right" and "left" without transposed copies.

With shared weights, forward reads an image's weights once per channel, from L2 after the first
channel. Backward sums g h over the channels, in their order and without atomics, where g is the
whole gradient of h. With 1, 2, 4 or 8 channels one launch does it: the blocks of a cluster walk the
channels of an image and exchange g and h through distributed shared memory (exchange.py). With any
other number of channels, or on a GPU without clusters, the scan writes g in float32, and a second
launch sums (weight_sum.py).

If the weights are logits, forward normalizes them when it takes them from the ring. Normalized
weights are never written to memory. Normalizing does not depend on h, so it overlaps with loads;
docs/notes.md has what it costs.

columns.py scans "right" and "left" without transposed copies, for float32 columns of up to 512.
Copies were measured to be faster on longer ones. 16-bit types and backward use copies too.

Changes since r06c: the depth of the ring, from 4 lines to 8 with float32, 10 with bfloat16, and up
to 16 on short lines. Since 0.2.0, backward with shared weights is one launch where a cluster sums;
before, it was always two. Forward has not changed.

Expect: launches 1. On figure 3 DRAM throughput stays that of a copy, 86 % of peak, and the time
stays 0.78 ms. Where latency is the limit, the time falls on an H200: with shared weights to
0.455 ms, on a single slice to 0.24 ms. An H100 does not gain with shared weights: docs/notes.md.
Backward with shared weights moves its compulsory bytes, without g.

Source: arXiv 2512.07884, section 3.3. The ring of registers and the exchange are ours.
"""

from collections.abc import Sequence

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import Array, bind_launch
from gspn2bench.kernels.launch_limits import MAX_THREADS, grid_limit_reason
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.r07_gspn2 import columns, configuration, section
from gspn2bench.kernels.r07_gspn2.backward import build_backward
from gspn2bench.kernels.r07_gspn2.configuration import MAX_WORDS, Config
from gspn2bench.kernels.r07_gspn2.forward import build_forward
from gspn2bench.kernels.r07_gspn2.section import Layout, exchanges
from gspn2bench.kernels.r07_gspn2.weight_sum import SUM_THREADS, build_weight_sum
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem, ceil_div


def bind_forward(problem: ScanProblem, operands: Operands) -> Call:
    config = configuration.choose(problem)
    compiled = build_forward(config)
    arrays = forward_arrays(operands, config.word_bytes)
    grid = problem.slices * problem.chunks
    return bind_launch(compiled, grid, config.threads, *arrays, *_sizes(problem))


def bind_backward(problem: ScanProblem, operands: Operands) -> Call:
    if problem.weights == "channel":
        config = configuration.choose(problem)
        arrays = [*backward_arrays(operands, config.word_bytes), scratch(operands, 1)]
        return _bind_scan(problem, config, arrays)
    bind = bind_one_launch if exchanges(problem) else bind_two_launches
    return bind(problem, operands)


def bind_one_launch(problem: ScanProblem, operands: Operands) -> Call:
    """Backward with shared weights, summed over the channels by a cluster of blocks."""
    config = section.choose(problem)
    inputs_and_data = backward_arrays(operands, config.word_bytes)[:9]
    grad_w = backward_arrays(operands)[9:]  # one value per store
    arrays = [*inputs_and_data, *grad_w, scratch(operands, 1)]
    return _bind_scan(problem, config, arrays, Layout(config).shared_bytes)


def bind_two_launches(problem: ScanProblem, operands: Operands) -> Call:
    """Backward with shared weights, summed over the channels by a launch after the scan."""
    config = configuration.choose(problem)
    g = scratch(operands, problem.slices * problem.plane)
    scan = _bind_scan(problem, config, [*backward_arrays(operands, config.word_bytes), g])

    h, _, _, *grad_w = backward_arrays(operands)[6:]
    elements = problem.batch * problem.plane
    sizes = (problem.height, problem.width, problem.channels, problem.chunk_length, elements)
    compiled_sum = build_weight_sum(problem.dtype, config.upward)
    sum_grid = ceil_div(elements, SUM_THREADS)
    weight_sum = bind_launch(compiled_sum, sum_grid, SUM_THREADS, g, h, *grad_w, *sizes)

    def call() -> None:
        scan()
        weight_sum()

    return call


def _bind_scan(
    problem: ScanProblem, config: Config, arrays: Sequence[Array], shared_bytes: int = 0
) -> Call:
    return bind_launch(
        build_backward(config),
        problem.slices * problem.chunks,
        config.threads,
        *arrays,
        *_sizes(problem),
        shared_bytes=shared_bytes,
        cluster=max(1, config.cluster),
    )


def _sizes(problem: ScanProblem) -> tuple[int, ...]:
    return (problem.height, problem.channels, problem.chunk_length, problem.chunks)


def bind_any_forward(problem: ScanProblem, operands: Operands) -> Call:
    """Forward in every direction, without transposed copies where ``columns`` can run it."""
    if columns.fits(problem):
        return columns.bind_forward(problem, operands)
    return transposed(bind_forward)(problem, operands)


def launches(problem: ScanProblem) -> int:
    if columns.fits(problem):
        return 1
    return 1 + _sums_after(problem) + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes, and g of backward in two launches, written and read once."""
    if columns.fits(problem):
        return problem.compulsory_bytes
    moved = problem.compulsory_bytes + transposed_traffic(problem)
    if _sums_after(problem):
        moved += scratch_traffic(problem.slices * problem.plane)
    return moved


def _sums_after(problem: ScanProblem) -> bool:
    """Whether a second launch sums the gradients of the weights."""
    shared_backward = problem.phase == "backward" and problem.weights == "shared"
    return shared_backward and not exchanges(problem)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if columns.fits(problem):
        return grid_limit_reason(problem)
    config = configuration.choose(problem)
    if config.words > MAX_WORDS:
        longest = MAX_WORDS * config.pack * MAX_THREADS
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {longest}, {config.pack} columns per load"
    return grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r07",
    title="gspn2",
    idea="GSPN-2: the ring as deep as registers allow; backward and logits",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=bind_any_forward,
    backward=transposed(bind_backward),
    launches=launches,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
    takes_logits=True,
)
