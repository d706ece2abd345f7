"""r08 on a GPU: no deadlock and the same bits every time, alone and beside other work."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gspn2bench.kernels.cluster import clusters_available
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r08_strips import bind_forward, configuration
from gspn2bench.problem import PHASES, Phase, ScanProblem
from gspn2bench.workload import gate, inputs

pytestmark = pytest.mark.gpu
PROGRAM = Path(__file__).resolve().parents[1] / "helpers" / "launch_strips.py"
LAUNCHES = 10_000
LIMIT_S = 300
"""Far longer than the program takes. A deadlock ends in a failure, not in a test that hangs."""


@pytest.fixture(autouse=True)
def needs_clusters() -> None:
    if not clusters_available():
        pytest.skip("needs a GPU with thread-block clusters")


def test_launches_of_random_shapes_have_the_same_bits_and_do_not_deadlock() -> None:
    """Alone, beside a stream that fills every multiprocessor, and beside a second process."""
    program = subprocess.Popen(
        [sys.executable, "-P", str(PROGRAM), str(LAUNCHES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
    )
    try:
        output, errors = program.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)  # the second process too
        output, errors = program.communicate()
        pytest.fail(
            f"not done after {LIMIT_S} s; modes that ended: {output or 'none'}; {errors[-3000:]}"
        )
    assert program.returncode == 0, errors[-3000:]
    results = [json.loads(line) for line in output.splitlines()]
    assert [(result["mode"], result["launches"]) for result in results] == [
        ("alone", LAUNCHES),
        ("busy stream", LAUNCHES // 4),
        ("second process", LAUNCHES // 4),
    ]
    for result in results:
        assert result["clusters"] == [1, 2, 4, 8, 16]
        assert result["different"] == 0, result


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("size", "fields"),
    [
        ((1, 1, 300, 1024), {}),  # a cluster of 16
        ((1, 3, 70, 8192), {}),  # the longest line
        ((2, 3, 65, 513), {"dtype": "bfloat16", "weights": "shared", "direction": "up"}),
        ((1, 8, 130, 1000), {"dtype": "float16", "direction": "left", "chunk": 70}),
        ((300, 1, 40, 4096), {"chunk": 8}),  # more clusters than run at once
    ],
)
def test_chosen_configurations_equal_the_reference(
    size: tuple[int, int, int, int], fields: dict[str, Any], phase: Phase
) -> None:
    problem = ScanProblem(*size, phase=phase, **fields)
    operands = inputs.make(problem, "cuda", seed=3)
    call = LADDER["r08"].bind(problem, operands)
    result = gate.check(problem, operands, call)
    assert result.passed, result.reason
    first = {name: tensor.clone() for name, tensor in inputs.outputs(problem, operands).items()}
    inputs.poison(problem, operands)
    call()
    for name, tensor in inputs.outputs(problem, operands).items():
        assert tensor.equal(first[name]), name


@pytest.mark.parametrize("drift", [0, 2])
@pytest.mark.parametrize("blocks", [1, 2, 4, 8, 16])
def test_edges_cross_every_strip(blocks: int, drift: int) -> None:
    """Values that hardly fade move from one end of the line to the other."""
    problem = ScanProblem(1, 1, 600, 512)
    warps = 512 // (blocks * configuration.OWN_LANES * 2)
    config = configuration.of_shape(problem, 2, max(warps, 1), blocks, 1, 8)
    assert config is not None
    operands = inputs.make(problem, "cuda", seed=1)
    operands.w.fill_(0.001)
    operands.w[drift].fill_(0.998)
    operands.lam[:, :, 1:] = 0  # everything comes from the first line
    result = gate.check(problem, operands, bind_forward(problem, operands, config))
    assert result.passed, result.reason
