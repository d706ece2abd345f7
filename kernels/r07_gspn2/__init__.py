"""r07 gspn2: one launch, tuned to the memory roofline.

Idea: a block owns a chunk of a slice and walks its lines. A thread owns a few adjacent columns,
those of one load of 8 bytes. The scan is a chain of dependent steps, so a load that starts with its
step exposes the memory latency at every step. Each thread therefore keeps the operands of the next
``depth`` lines in a ring of registers. Once it has used those of line i, it loads line i + depth
into their place. h stays on the chip: a thread's own columns in registers, the edges of its run in
two lines of shared memory, which alternate, so one barrier per line is enough.

A warp tracks outstanding loads with six scoreboards. Waiting on one waits for every load assigned
to it, and the compiler has one to spare for the ring. If a branch separates the loads of a line
from their use, the warp waits at each line, and the ring gains nothing. Without branches it waits
once per pass of the ring. So the main loop runs while every line has another to load ``depth``
ahead; a slower loop computes the last lines. The length of a line is a constant of the kernel, so
an operand's addresses within a pass are one register plus constants.

Changes since r06: lines are loaded ``depth`` ahead; only the edges of a run pass through shared
memory; one load reads several columns, and few warps meet at the barrier.

Expect: launches 1. DRAM throughput reaches that of a copy if there are as many slices as
multiprocessors. Executed instructions fall to half of r05's. The remaining long_scoreboard stalls
are those of the memory itself.

With shared weights, forward reads an image's weights once per channel, from L2 after the first
channel. Backward cannot sum over channels in one launch, since a block has one channel. The first
launch walks the scan and writes g, the whole gradient of h, in float32. The second sums g h over
the channels in their order, without atomics; its elements are independent of each other.

If the weights are logits, forward normalizes them when it takes them from the ring. Normalized
weights are never written to memory. Normalizing does not depend on h, so it overlaps with loads;
docs/notes.md has what it costs.

columns.py scans "right" and "left" without transposed copies, for float32 columns of up to 512.
Copies were measured to be faster on longer ones. 16-bit types and backward use copies too.

Source: arXiv 2512.07884, section 3.3. The ring of registers is ours.
"""

from gspn2bench.kernels.contract import Call, Operands, Rung
from gspn2bench.kernels.jit import bind_launch
from gspn2bench.kernels.launch_limits import MAX_THREADS, grid_limit_reason
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.r07_gspn2 import columns, configuration
from gspn2bench.kernels.r07_gspn2.backward import build_backward
from gspn2bench.kernels.r07_gspn2.configuration import MAX_WORDS
from gspn2bench.kernels.r07_gspn2.forward import build_forward
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
    config = configuration.choose(problem)
    g = scratch(operands, problem.slices * problem.plane if config.shared else 1)
    arrays = [*backward_arrays(operands, config.word_bytes), g]
    grid = problem.slices * problem.chunks
    compiled = build_backward(config)
    scan = bind_launch(compiled, grid, config.threads, *arrays, *_sizes(problem))
    if not config.shared:
        return scan

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
    scans = 2 if problem.phase == "backward" and problem.weights == "shared" else 1
    return scans + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes, and g of backward with shared weights, written and read once."""
    if columns.fits(problem):
        return problem.compulsory_bytes
    moved = problem.compulsory_bytes + transposed_traffic(problem)
    if problem.phase == "backward" and problem.weights == "shared":
        moved += scratch_traffic(problem.slices * problem.plane)
    return moved


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
    idea="GSPN-2: one launch, coalesced, h on the chip, operands loaded lines ahead",
    source="arXiv 2512.07884, section 3.3",
    native="down",
    forward=bind_any_forward,
    backward=transposed(bind_backward),
    launches=launches,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
    takes_logits=True,
)
