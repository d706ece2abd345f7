import random
from typing import Any

import pytest

from gspn2bench.problem import ScanProblem


def test_sizes_of_a_vertical_and_a_horizontal_scan() -> None:
    down = ScanProblem(2, 3, 5, 7)
    right = ScanProblem(2, 3, 5, 7, direction="right")
    assert (down.slices, down.plane, down.steps, down.line) == (6, 35, 5, 7)
    assert (right.steps, right.line) == (7, 5)
    assert down.chunk_length == 5
    assert right.chunk_length == 7
    assert ScanProblem(2, 3, 5, 7, chunk=2).chunk_length == 2


@pytest.mark.parametrize("positions", [1, 2, 3, 8, 33])
def test_no_order_of_the_sums_has_a_shorter_chain(positions: int) -> None:
    """Each element adds its neighbours in a random order; its chain is the longest path to it."""
    lines = 40
    problem = ScanProblem(1, 1, lines, positions)
    randomly = random.Random(positions)
    for _ in range(20):
        finished = [0] * positions
        for _ in range(lines - 1):
            line = []
            for p in range(positions):
                neighbours = finished[max(p - 1, 0) : p + 2]
                randomly.shuffle(neighbours)
                line.append(max(done + late for late, done in enumerate(neighbours, 1)))
            finished = line
        assert max(finished) >= problem.dependent_fmas


def test_the_chain_is_nearly_two_fmas_per_line() -> None:
    assert ScanProblem(1, 1, 1024, 1024).dependent_fmas == 2045
    assert ScanProblem(1, 1, 1024, 1024, chunk=64).dependent_fmas == 125
    assert ScanProblem(1, 1, 1024, 1).dependent_fmas == 1023
    assert ScanProblem(1, 1, 1, 1024).dependent_fmas == 0
    assert ScanProblem(1, 1, 3, 1024, direction="right").dependent_fmas == 1753


def test_shapes_follow_the_weights() -> None:
    assert ScanProblem(2, 3, 5, 7).weight_shape == (3, 2, 3, 5, 7)
    assert ScanProblem(2, 3, 5, 7, weights="shared").weight_shape == (3, 2, 5, 7)


@pytest.mark.parametrize(
    ("fields", "gigabytes"),
    [
        ({}, 3.22),  # x, lam, three weights, h
        ({"phase": "backward"}, 6.44),  # twelve tensors
        ({"weights": "shared"}, 1.81),
        ({"weights": "shared", "logits": True}, 1.81),
        ({"weights": "shared", "dtype": "bfloat16"}, 0.906),
    ],
)
def test_compulsory_bytes_of_figure_3(fields: dict[str, Any], gigabytes: float) -> None:
    problem = ScanProblem(16, 8, 1024, 1024, **fields)
    assert problem.compulsory_bytes / 1e9 == pytest.approx(gigabytes, rel=3e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "batch: 0 is below 1"),
        ({"channels": -3}, "channels: -3 is below 1"),
        ({"height": 2**31}, "height: 2147483648 is above 2147483647"),
        ({"width": 1.5}, "width: 1.5 is not a whole number"),
        ({"width": True}, "width: True is not a whole number"),
        ({"dtype": "float64"}, "dtype: 'float64' is not one of float32, float16, bfloat16"),
        ({"direction": "sideways"}, "direction: 'sideways' is not one of down, up, right, left"),
        ({"weights": "none"}, "weights: 'none' is not one of channel, shared"),
        ({"phase": "both"}, "phase: 'both' is not one of forward, backward"),
        ({"logits": 1}, "logits: 1 is neither True nor False"),
        (
            {"logits": True, "phase": "backward"},
            "logits: must be False for backward, which takes weights",
        ),
        ({"chunk": 0}, "chunk: 0 is below 1"),
        ({"chunk": 6}, "chunk: 6 is above the scan length, 5"),
        ({"chunk": 8, "direction": "left"}, "chunk: 8 is above the scan length, 7"),
        ({"batch": 2**16, "channels": 2**16}, "batch * channels: 4294967296 is above 2147483647"),
        ({"height": 2**16, "width": 2**16}, "height * width: 4294967296 is above 2147483647"),
    ],
)
def test_bad_fields_are_named_with_their_bound(fields: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"batch": 2, "channels": 3, "height": 5, "width": 7}
    with pytest.raises(ValueError) as caught:
        ScanProblem(**(good | fields))  # type: ignore[arg-type]
    assert str(caught.value) == message
