"""r08 strips: several blocks per slice, for few slices.

Idea: r07 gives a slice to one block, and a block gets a small share of the memory bandwidth: with
one slice, 131 of 132 multiprocessors are idle. Here a cluster of up to 16 blocks shares a slice.
Each warp owns a strip of columns. It keeps h in registers and passes it between lanes by shuffles,
so no barrier stops the block at every line.

A warp computes a halo of its neighbours' columns as well. With every line the halo gets narrower
by a column. When it is used up, after 16 or 32 lines, the warps exchange the edges of their strips,
within a block and between the blocks of a cluster alike: edges.py.

Producer warps only load. They keep a ring of up to 64 lines in shared memory full with asynchronous
copies, and the computing warps read it there: ring.py.

Also: backward, which passes g between lanes in the same way; weights given as logits; "right" and
"left" by transposed copies; lines of up to 8192. With shared weights of several channels, backward
is two launches, as r07's was before clusters. Warps wait for each other in three places, and
docs/deadlock.md shows that they cannot deadlock.

Changes since r07: a line is divided among warps and blocks, which exchange edges every few lines
instead of at every line. Separate warps load, into shared memory instead of registers.

Expect: launches 1. One slice of 1024 x 1024 on an H100 takes 0.042 ms instead of 0.23. With 64
slices or more, r07 is as fast.

Source: ours. Halos that are computed twice to exchange less often are known as temporal blocking.
"""

from gspn2bench.kernels.cluster import clusters_available
from gspn2bench.kernels.contract import Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import SIMULATED, bind_launch
from gspn2bench.kernels.launch_limits import grid_limit_reason
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.r07_gspn2.weight_sum import bind_weight_sum
from gspn2bench.kernels.r08_strips import configuration
from gspn2bench.kernels.r08_strips.backward import build_backward
from gspn2bench.kernels.r08_strips.configuration import MAX_LINE, Config
from gspn2bench.kernels.r08_strips.forward import build_forward
from gspn2bench.kernels.r08_strips.ring import copied_bytes
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem


def bind_forward(problem: ScanProblem, operands: Operands, config: Config | None = None) -> Call:
    config = config or configuration.choose(problem)
    return bind_launch(
        build_forward(config),
        problem.slices * problem.chunks * config.blocks,
        config.threads,
        *forward_arrays(operands, alignment=copied_bytes(config)),
        *(problem.height, problem.channels, problem.chunk_length, problem.chunks),
        shared_bytes=config.ring_bytes,
        cluster=config.blocks,
    )


def bind_backward(problem: ScanProblem, operands: Operands, config: Config | None = None) -> Call:
    config = config or configuration.choose(problem)
    arrays = backward_arrays(operands, alignment=copied_bytes(config))
    g = scratch(operands, scratch_size(problem))
    scan = bind_launch(
        build_backward(config),
        problem.slices * problem.chunks * config.blocks,
        config.threads,
        *arrays,
        g,
        *(problem.height, problem.channels, problem.chunk_length, problem.chunks),
        shared_bytes=config.ring_bytes,
        cluster=config.blocks,
    )
    if not config.shared:
        return scan
    h, _, _, *grad_w = arrays[6:]
    weight_sum = bind_weight_sum(problem, config.upward, g, h, *grad_w)

    def call() -> None:
        scan()
        weight_sum()

    return call


def sums_channels(problem: ScanProblem) -> bool:
    """Whether a second launch sums the gradients of shared weights over the channels."""
    return problem.phase == "backward" and problem.weights == "shared" and problem.channels > 1


def scratch_size(problem: ScanProblem) -> int:
    """Float32 values of scratch memory: g, if a second launch reads it; at least one."""
    return problem.slices * problem.plane if sums_channels(problem) else 1


def launches(problem: ScanProblem) -> int:
    return (2 if sums_channels(problem) else 1) + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes, and g written and read once if a second launch reads it."""
    moved = compulsory_traffic(problem) + transposed_traffic(problem)
    return moved + (scratch_traffic(scratch_size(problem)) if sums_channels(problem) else 0)


def unsupported_reason(problem: ScanProblem) -> str | None:
    if not (SIMULATED or clusters_available()):
        return "GPU: r08 needs thread-block clusters, which begin with compute capability 9.0"
    if problem.line > MAX_LINE:
        field = "width" if problem.vertical else "height"
        return f"{field}: {problem.line} is above {MAX_LINE}, the longest line of a cluster"
    return grid_limit_reason(problem) or tile_limit_reason(problem)


RUNG = Rung(
    id="r08",
    title="strips",
    idea="several blocks per slice: warps own strips, and exchange edges every few lines",
    source="ours",
    native="down",
    forward=transposed(bind_forward),
    backward=transposed(bind_backward),
    launches=launches,
    unsupported_reason=unsupported_reason,
    traffic=traffic,
    takes_logits=True,
)
