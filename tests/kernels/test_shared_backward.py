"""Backward of r07 with shared weights: the sum over channels in one launch and in two.

The simulator has no clusters. There a cluster of one block covers the order of the exchange, its
memory and the sums; clusters of several blocks need a GPU.
"""

from dataclasses import replace

import pytest
import torch

from gspn2bench.kernels.contract import Operands
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r07_gspn2 import bind_one_launch, bind_two_launches, section
from gspn2bench.kernels.transposed import transposed, transposed_launches
from gspn2bench.measure import launches
from gspn2bench.problem import Direction, DType, ScanProblem
from gspn2bench.workload import gate, inputs


def shared_backward(
    shape: tuple[int, int, int, int],
    dtype: DType = "float32",
    direction: Direction = "down",
    chunk: int | None = None,
) -> ScanProblem:
    return ScanProblem(*shape, dtype, direction, chunk, "shared", "backward")


def wild_operands(problem: ScanProblem, device: str) -> Operands:
    """Operands whose weights point outside the line too: a kernel must take those as zero."""
    operands = inputs.make(problem, device, seed=3)
    operands.w.uniform_(-0.5, 0.5, generator=torch.Generator(device).manual_seed(4))
    return operands


@pytest.mark.parametrize(
    ("height", "width", "dtype", "direction", "chunk"),
    [
        (1, 1, "float32", "down", None),  # one group of one line
        (2, 3, "float32", "up", None),  # one whole group
        (15, 4, "float32", "down", None),  # every slot of a section is used again
        (11, 33, "float32", "up", 4),  # a shorter last chunk
        (9, 8, "bfloat16", "down", 7),
        (9, 6, "float16", "up", None),
    ],
)
def test_one_launch_equals_the_reference(
    height: int, width: int, dtype: DType, direction: Direction, chunk: int | None, device: str
) -> None:
    problem = shared_backward((2, 1, height, width), dtype, direction, chunk)
    operands = wild_operands(problem, device)
    call = bind_one_launch(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    assert launches.count_launches(call) == 1


@pytest.mark.parametrize(
    ("words", "pack", "depth", "width"), [(3, 1, 2, 70), (2, 2, 2, 100), (1, 1, 4, 32)]
)
def test_one_launch_with_a_run_of_columns_per_thread(
    words: int, pack: int, depth: int, width: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = shared_backward((1, 1, 2 * depth + 3, width))
    config = replace(
        section.choose(problem),
        line_words=width // pack,
        threads=32,
        words=words,
        pack=pack,
        depth=depth,
    )
    monkeypatch.setattr(section, "choose", lambda problem: config)
    operands = wild_operands(problem, device)
    result = gate.check(problem, operands, bind_one_launch(problem, operands))
    assert result.passed, result.reason


def test_two_launches_equal_the_reference(device: str) -> None:
    problem = shared_backward((2, 3, 5, 6), chunk=2)
    operands = wild_operands(problem, device)
    call = bind_two_launches(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    assert launches.count_launches(call) == 2


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
def test_a_small_problem_takes_two_launches(channels: int, device: str) -> None:
    problem = shared_backward((1, channels, 3, 4))
    rung = LADDER["r07"]
    assert rung.launches is not None
    assert rung.launches(problem) == 2
    scratch = 2 * 4 * problem.slices * problem.plane
    assert rung.traffic(problem) == problem.compulsory_bytes + scratch
    call = rung.bind(problem, inputs.make(problem, device, seed=0))
    assert launches.count_launches(call) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [1, 33, 256, 1023, 1024, 1025, 2048, 4096])
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_a_section_fits_or_two_launches_are_taken(
    channels: int, width: int, dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(section, "clusters_available", lambda: True)
    problem = shared_backward((1, channels, 1024, width), dtype)
    config = section.choose(problem)
    layout = section.Layout(config)
    assert config.cluster == channels
    assert layout.lanes * channels == config.threads  # a thread's columns have one owner
    assert layout.lanes >= 2  # a thread is beside one other section at most
    assert layout.row % 4 == 0
    assert section.exchanges(problem) == layout.fits
    assert layout.fits or width > 2048
    assert layout.columns * channels >= width


CLUSTER_CASES = [
    ((2, 8, 65, 1024), "float32", "down", None),
    ((2, 8, 50, 1024), "float32", "up", 17),
    ((2, 8, 65, 1000), "bfloat16", "down", 10),
    ((2, 4, 63, 500), "float16", "up", None),
    ((2, 4, 17, 31), "float32", "down", None),
    ((1, 2, 40, 1025), "float32", "down", None),
    ((3, 2, 5, 5), "float32", "up", None),
    ((1, 2, 1, 1), "float32", "down", None),
    ((1, 8, 33, 2048), "float32", "down", None),
    ((2, 8, 12, 100), "float32", "left", 30),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "dtype", "direction", "chunk"), CLUSTER_CASES)
def test_a_cluster_equals_the_reference_with_the_same_bits_every_time(
    shape: tuple[int, int, int, int],
    dtype: DType,
    direction: Direction,
    chunk: int | None,
    device: str,
) -> None:
    problem = shared_backward(shape, dtype, direction, chunk)
    if not section.exchanges(problem):
        pytest.skip("needs a GPU with clusters")
    operands = wild_operands(problem, device)
    call = transposed(bind_one_launch)(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    assert launches.count_launches(call) == 1 + transposed_launches(problem)
    expected = {name: tensor.clone() for name, tensor in inputs.outputs(problem, operands).items()}
    for _ in range(3):
        inputs.poison(problem, operands)
        call()
        for name, tensor in inputs.outputs(problem, operands).items():
            assert torch.equal(tensor, expected[name]), name
