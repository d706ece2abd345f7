"""r07 gspn2: GSPN-2, tuned to the memory roofline.

Idea: r06c waits for memory once per pass of its ring. A deeper ring divides this wait by more
lines. So the ring is as deep as the registers of a block and the storage type allow: see
configuration.py.

Also: backward; weights given as logits; lines longer than a block, whose threads own several
adjacent words; "right" and "left" without transposed copies.

With shared weights, forward reads an image's weights once per channel, from L2 after the first
channel. Backward sums g h over the channels, in their order and without atomics, where g is the
whole gradient of h. With 1, 2, 4 or 8 channels one launch can do it: the blocks of a cluster walk
the channels of an image and exchange g and h through distributed shared memory (exchange.py).
Otherwise the scan writes g in float32, and a second launch sums (weight_sum.py).

One launch moves fewer bytes, and pays where a GPU is full. It takes the images of full waves of
clusters. A few images left run as two launches on a second stream, at the same time (waves.py).

If the weights are logits, forward normalizes them when it takes them from the ring. Normalized
weights are never written to memory. Normalizing does not depend on h, so it overlaps with loads;
docs/notes.md has what it costs.

columns.py scans "right" and "left" without transposed copies, for float32 columns of up to 512.
Copies were measured to be faster on longer ones. 16-bit types and backward use copies too.

Changes since r06c: the depth of the ring, from 4 lines to 8 with float32, 10 with 16-bit types, and
up to 16 on short lines. Backward with shared weights was always two launches before 0.3.0. Forward
with float16 had a ring of 8 lines: a deeper one was not unrolled.

Expect: launches 1. On figure 3 DRAM throughput stays that of a copy, 86 % of peak, and the time
stays 0.78 ms. Where latency is the limit, the time falls on an H200: with shared weights to
0.455 ms, on a single slice to 0.24 ms. An H100 does not gain with shared weights: docs/notes.md.
Backward with shared weights moves its compulsory bytes in one launch, without g. On figure 3 an
H100 takes 15 images as clusters and 1 in two launches, 3 launches in all.

Source: arXiv 2512.07884, section 3.3. The ring of registers and the exchange are ours.
"""

from collections.abc import Sequence
from dataclasses import replace

from gspn2bench.kernels.contract import Bind, Call, Operands, Rung
from gspn2bench.kernels.jit import Array, bind_launch
from gspn2bench.kernels.launch_limits import MAX_THREADS, grid_limit_reason
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    of_images,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.r07_gspn2 import columns, configuration, section, waves
from gspn2bench.kernels.r07_gspn2.backward import build_backward
from gspn2bench.kernels.r07_gspn2.configuration import MAX_WORDS, Config
from gspn2bench.kernels.r07_gspn2.forward import build_forward
from gspn2bench.kernels.r07_gspn2.section import Layout
from gspn2bench.kernels.r07_gspn2.weight_sum import bind_weight_sum
from gspn2bench.kernels.streams import side_by_side
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem


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
    calls = [
        bind(replace(problem, batch=len(images)), of_images(operands, images))
        for bind, images in shared_backward_parts(problem)
    ]
    return calls[0] if len(calls) == 1 else side_by_side(calls)


def shared_backward_parts(problem: ScanProblem) -> list[tuple[Bind, range]]:
    """How backward with shared weights runs: each part's binding and images.

    The clusters come first. If blocks of two launches were placed before them, a multiprocessor
    that a cluster needs might be taken.
    """
    images = waves.images_in_clusters(problem)
    parts = ((bind_one_launch, range(images)), (bind_two_launches, range(images, problem.batch)))
    return [(bind, part) for bind, part in parts if part]


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
    weight_sum = bind_weight_sum(problem, config.upward, g, h, *grad_w)

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
    return _scan_launches(problem) + transposed_launches(problem)


def traffic(problem: ScanProblem) -> int:
    """The compulsory bytes, and g of images that take two launches, written and read once."""
    if columns.fits(problem):
        return problem.compulsory_bytes
    moved = problem.compulsory_bytes + transposed_traffic(problem)
    if _sums_channels(problem):
        images = problem.batch - waves.images_in_clusters(problem)
        moved += scratch_traffic(images * problem.channels * problem.plane)
    return moved


def _scan_launches(problem: ScanProblem) -> int:
    """Launches without those of transposes: one for clusters, and two for the images left."""
    if not _sums_channels(problem):
        return 1
    images = waves.images_in_clusters(problem)
    return (images > 0) + 2 * (images < problem.batch)


def _sums_channels(problem: ScanProblem) -> bool:
    """Whether the gradients of the weights are summed over the channels."""
    return problem.phase == "backward" and problem.weights == "shared"


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
