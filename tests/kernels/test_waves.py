"""r07's backward with shared weights: which images run as clusters, and which as two launches.

The simulator has no clusters, so the number of clusters that a GPU holds is replaced there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from gspn2bench.kernels import jit, r07_gspn2
from gspn2bench.kernels.contract import Bind, Call, Operands
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.operand_arrays import of_images
from gspn2bench.kernels.r07_gspn2 import bind_one_launch, bind_two_launches, section, waves
from gspn2bench.measure import launches
from gspn2bench.problem import DType, ScanProblem
from gspn2bench.workload import gate, inputs

R07 = LADDER["r07"]
Parts = list[tuple[Bind, range]]


def shared_backward(
    shape: tuple[int, int, int, int], dtype: DType = "float32", chunk: int | None = None
) -> ScanProblem:
    return ScanProblem(*shape, dtype, chunk=chunk, weights="shared", phase="backward")


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (1, 1),
        (8, 8),
        (15, 15),  # one wave
        (16, 15),
        (22, 15),
        (23, 23),  # half a wave is left: it runs as clusters
        (30, 30),
        (31, 30),
        (37, 30),
        (38, 38),
    ],
)
def test_images_of_full_waves_run_as_clusters(batch: int, expected: int) -> None:
    assert waves.images_of_waves(shared_backward((batch, 8, 64, 1024)), 15) == expected


@pytest.mark.parametrize(
    ("batch", "chunks", "resident", "expected"),
    [
        (7, 2, 15, 7),  # 14 clusters
        (8, 2, 15, 7),  # an image is 2 clusters, and 7 images leave room for one
        (8, 2, 14, 7),
        (9, 2, 14, 7),
        (11, 2, 15, 11),  # 8 clusters are left
        (1, 64, 15, 1),  # an image of several waves
        (2, 20, 15, 2),
        (5, 1, 0, 0),  # no GPU, or one without clusters
    ],
)
def test_a_chunk_of_an_image_is_a_cluster(
    batch: int, chunks: int, resident: int, expected: int
) -> None:
    problem = shared_backward((batch, 8, chunks, 1024), chunk=1)
    assert waves.images_of_waves(problem, resident) == expected


@pytest.mark.parametrize(
    ("shape", "chunk", "expected"),
    [
        ((8, 8, 64, 1024), None, 8),
        ((8, 8, 64, 512), None, 8),
        ((8, 8, 64, 511), None, 0),  # short lines
        ((7, 8, 64, 1024), None, 0),  # 56 blocks
        ((7, 8, 64, 1024), 32, 7),  # 112 blocks, 14 clusters
        ((1, 8, 64, 1024), None, 0),
        ((4, 4, 512, 512), None, 0),
        ((16, 3, 64, 1024), None, 0),  # no cluster of 3 blocks
        ((16, 8, 64, 8192), None, 0),  # the section does not fit
    ],
)
def test_clusters_run_only_where_they_pay(
    shape: tuple[int, int, int, int],
    chunk: int | None,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(section, "clusters_available", lambda: True)
    monkeypatch.setattr(waves, "resident_clusters", lambda _: 15)
    assert waves.images_in_clusters(shared_backward(shape, chunk=chunk)) == expected


@pytest.fixture
def three_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that holds 3 clusters; small problems follow the rule of large ones."""
    monkeypatch.setattr(waves, "MIN_BLOCKS", 1)
    monkeypatch.setattr(waves, "MIN_LINE", 1)
    monkeypatch.setattr(waves, "resident_clusters", lambda _: 3)
    monkeypatch.setattr(section, "clusters_available", lambda: True)


@pytest.mark.parametrize(
    ("batch", "channels", "expected", "left"),
    [(3, 8, 1, 0), (4, 8, 3, 1), (5, 8, 1, 0), (7, 8, 3, 1), (4, 1, 3, 1), (4, 3, 2, 4)],
)
@pytest.mark.parametrize("direction", ["down", "left"])
def test_launches_and_traffic_are_those_of_the_path_taken(
    batch: int,
    channels: int,
    expected: int,
    left: int,
    direction: Any,
    three_resident: None,
) -> None:
    problem = ScanProblem(
        batch, channels, 6, 6, direction=direction, weights="shared", phase="backward"
    )
    assert R07.launches is not None
    copies = 0 if direction == "down" else 8
    assert R07.launches(problem) == expected + copies
    transposes = 2 * problem.compulsory_bytes if copies else 0
    scratch = 2 * 4 * left * channels * problem.plane
    assert R07.traffic(problem) == problem.compulsory_bytes + transposes + scratch


@contextmanager
def images_of_scans(operands: Operands) -> Iterator[list[int]]:
    """The images of every scan that is launched inside the context, by the address of grad_x."""
    images: list[int] = []

    @contextmanager
    def record(compiled: Any, arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
        if compiled.fn.__name__ == "r07_gspn2_backward":
            grad_x = operands.grad_x
            assert grad_x is not None
            image = grad_x[0].numel() * grad_x.element_size()
            first = (arguments[7].ctypes.data - grad_x.data_ptr()) // image
            images.extend(range(first, first + arguments[7].nbytes // image))
        yield arguments

    with jit.observing(record):
        yield images


def check_split(problem: ScanProblem, operands: Operands, bind: Callable[..., Call]) -> int:
    """Check the results, and that every image is scanned once; return the number of launches."""
    call = bind(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    with images_of_scans(operands) as images:
        call()
    assert sorted(images) == list(range(problem.batch)), f"images scanned: {images}"
    return launches.count_launches(call)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [4, 5])
def test_a_split_equals_the_reference(batch: int, dtype: DType, three_resident: None) -> None:
    """One channel: the simulator runs a cluster of one block."""
    problem = shared_backward((batch, 1, 5, 6), dtype, chunk=None)
    assert R07.launches is not None
    bound = check_split(problem, inputs.make(problem, "cpu", seed=0), R07.bind)
    assert bound == R07.launches(problem) == (3 if batch == 4 else 1)


def test_two_parts_of_several_channels_equal_the_reference(
    three_resident: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r07_gspn2, "bind_one_launch", bind_two_launches)
    problem = shared_backward((4, 2, 5, 6))
    assert check_split(problem, inputs.make(problem, "cpu", seed=0), R07.bind) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (range(2), range(3, 4)),  # image 2 is left out
        (range(3), range(2, 4)),  # image 2 twice
        (range(1, 4), range(3, 4)),  # image 0 is left out, and image 3 twice
        (range(3), range(3)),
    ],
)
def test_a_wrong_split_is_noticed(
    first: range, second: range, three_resident: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: Parts = [(bind_two_launches, first), (bind_two_launches, second)]
    monkeypatch.setattr(r07_gspn2, "shared_backward_parts", lambda _: parts)
    problem = shared_backward((4, 2, 5, 6))
    with pytest.raises(AssertionError, match=r"images scanned|NaN or infinite"):
        check_split(problem, inputs.make(problem, "cpu", seed=0), R07.bind)


def test_operands_of_images_are_views(device: str) -> None:
    problem = shared_backward((4, 2, 3, 5))
    operands = inputs.make(problem, device, seed=0)
    part = of_images(operands, range(1, 3))
    assert torch.equal(part.x, operands.x[1:3])
    assert torch.equal(part.w, operands.w[:, 1:3])
    assert part.grad_w is not None
    part.grad_w.fill_(7)
    assert operands.grad_w is not None
    assert [bool((operands.grad_w[:, n] == 7).all()) for n in range(4)] == [
        False,
        True,
        True,
        False,
    ]
    forward = ScanProblem(2, 1, 3, 5)
    assert of_images(inputs.make(forward, device, seed=0), range(1)).grad_w is None


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_wave_and_more_on_a_gpu(more: int, dtype: DType, device: str) -> None:
    problem = shared_backward((1, 8, 40, 1024), dtype)
    resident = waves.resident_clusters(problem)
    if not resident:
        pytest.skip("needs a GPU with clusters")
    problem = shared_backward((resident + more, 8, 40, 1024), dtype)
    operands = inputs.make(problem, device, seed=0)
    call = R07.bind(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    assert R07.launches is not None
    assert launches.count_launches(call) == R07.launches(problem) == (3 if more else 1)
    expected = {name: tensor.clone() for name, tensor in inputs.outputs(problem, operands).items()}
    for _ in range(3):
        inputs.poison(problem, operands)
        call()
        for name, tensor in inputs.outputs(problem, operands).items():
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_driver_is_asked_about_the_kernel_that_is_launched(dtype: DType, device: str) -> None:
    from gspn2bench.kernels import prebound_launch

    problem = shared_backward((1, 8, 40, 1024), dtype)
    if not waves.resident_clusters(problem):
        pytest.skip("needs a GPU with clusters")
    loaded = prebound_launch._specialized.cache_info().misses
    bind_one_launch(problem, inputs.make(problem, device, seed=0))
    assert prebound_launch._specialized.cache_info().misses == loaded
