"""Configurations that r08 chooses for a GPU, and those that it must refuse."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from gspn2bench.kernels.cluster import MAX_SHARED_BYTES
from gspn2bench.kernels.jit import WARP
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r08_strips import configuration, ring
from gspn2bench.kernels.r08_strips.configuration import MAX_BLOCKS, MAX_LINE, RESIDENT, SHAPES
from gspn2bench.problem import DTYPES, PHASES, WEIGHTS, DType, Phase, ScanProblem, Weights, ceil_div

LINES = (1, 2, 31, 33, 64, 127, 128, 500, 1023, 1024, 1025, 2048, 3000, 4096, 6143, 8191, MAX_LINE)
SLICES = (1, 2, 3, 8, 16, 33, 64, 132, 133, 300)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Choose as on a GPU: the simulator takes one block and one producer."""
    monkeypatch.setattr(configuration, "SIMULATED", False)
    configuration.choose.cache_clear()
    yield
    configuration.choose.cache_clear()


def fits_in_blocks(problem: ScanProblem, blocks: int) -> bool:
    """Whether some shape of this many blocks covers the line and has room for its ring."""
    for run, most_warps, group, groups in SHAPES:
        warps = ceil_div(problem.line, blocks * configuration.OWN_LANES * run)
        producers = 1 if warps <= configuration.FEW_WARPS[blocks] else 2
        if warps <= most_warps and configuration.of_shape(
            problem, run, warps, blocks, producers, group, groups
        ):
            return True
    return False


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_configuration_is_within_the_limits(
    phase: Phase, weights: Weights, dtype: DType, on_a_gpu: None
) -> None:
    for line, slices, (steps, chunk) in product(
        LINES, SLICES, ((1, None), (7, 3), (64, 16), (1024, None))
    ):
        problem = ScanProblem(1, slices, steps, line, dtype, "down", chunk, weights, phase)
        config = configuration.choose(problem)
        hold_limits(problem, config)
        parts = problem.slices * problem.chunks
        resident = parts * config.blocks <= RESIDENT[phase][config.blocks]
        assert config.blocks == 1 or resident or not fits_in_blocks(problem, config.blocks // 2)


def hold_limits(problem: ScanProblem, config: configuration.Config) -> None:
    used = config.ring_bytes + 4 * config.edges + 8 * config.barriers
    assert used <= MAX_SHARED_BYTES, f"{problem}: {used} bytes"
    assert config.threads <= 1024
    assert config.threads * config.max_registers <= 65_536
    assert config.blocks in (1, 2, 4, 8, MAX_BLOCKS)
    assert config.strips * config.strip >= problem.line
    assert (config.strips - 1) * config.strip < problem.line + config.blocks * config.strip
    assert config.halo % config.group == config.lines % config.group == 0
    assert config.group % config.producers == 0
    assert config.group & (config.group - 1) == 0  # a power of two
    assert config.groups >= min(2, ceil_div(problem.chunk_length, config.group))
    piece = ring.piece_of(config)
    assert config.width % piece == config.halo % piece == config.strip % piece == 0
    assert config.run * config.item_bytes % 4 == 0  # a lane's columns are whole words


@pytest.mark.parametrize("blocks", [1, 2, 4, 8, 16])
def test_a_cluster_is_chosen_where_there_are_few_slices(blocks: int, on_a_gpu: None) -> None:
    slices = {16: 1, 8: 8, 4: 16, 2: 64, 1: 128}[blocks]
    assert configuration.choose(ScanProblem(1, slices, 1024, 1024)).blocks == blocks


def test_short_lines_take_fewer_blocks(on_a_gpu: None) -> None:
    chosen = [configuration.choose(ScanProblem(1, 1, 64, line)).blocks for line in (63, 128, 256)]
    assert chosen == [1, 2, 4]


def test_a_ring_is_no_longer_than_its_walk(on_a_gpu: None) -> None:
    config = configuration.choose(ScanProblem(1, 1, 1000, 64, chunk=9))
    assert config.lines == ceil_div(9, config.group) * config.group


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((2, 1, 1, 1, 8), False),  # 32 of 1024 columns
        ((2, 32, 1, 1, 8), True),
        ((4, 16, 1, 1, 8), True),
        ((4, 16, 2, 1, 8), True),  # the second block is outside the line
    ],
)
def test_a_shape_that_does_not_cover_the_line_is_refused(
    shape: tuple[int, int, int, int, int], fits: bool
) -> None:
    config = configuration.of_shape(ScanProblem(1, 1, 64, 1024, "bfloat16"), *shape)
    assert (config is not None) is fits


@pytest.mark.parametrize(("direction", "field"), [("down", "width"), ("left", "height")])
def test_a_line_that_is_too_long(direction: Any, field: str, monkeypatch: Any) -> None:
    sizes = {"height": 4, "width": 4, field: MAX_LINE + 1}
    problem = ScanProblem(1, 1, **sizes, direction=direction)
    reason = LADDER["r08"].skip_reason(problem)
    assert reason == f"{field}: {MAX_LINE + 1} is above {MAX_LINE}, the longest line of a cluster"
    with pytest.raises(ValueError, match="the longest is 8192"):
        configuration.choose(ScanProblem(1, 1, 4, 16 * MAX_LINE))
    assert WARP == configuration.OWN_LANES + 2 * configuration.HALO_LANES
