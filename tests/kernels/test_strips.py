"""r08 against float64 in the simulator, and faults planted in what its warps wait for.

The simulator runs a Python thread per CUDA thread and one block at a time. So the cases are small,
and a slice has one block. Clusters are in test_strips_exchange.py and test_strips_gpu.py.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gspn2bench.kernels import mbarrier, simulated_block, wide
from gspn2bench.kernels.jit import SIMULATED, WARP, device_function
from gspn2bench.kernels.r08_strips import (
    backward,
    bind_backward,
    bind_forward,
    configuration,
    forward,
    ring,
)
from gspn2bench.kernels.r08_strips import edges as edges_module
from gspn2bench.kernels.r08_strips import walk as walk_module
from gspn2bench.kernels.r08_strips.configuration import Config
from gspn2bench.problem import DTYPES, PHASES, DType, Phase, ScanProblem
from gspn2bench.workload import gate, inputs

simulated = pytest.mark.skipif(not SIMULATED, reason="replaces what the simulator runs")


def config_of(
    problem: ScanProblem,
    run: int = 2,
    warps: int = 1,
    producers: int = 1,
    group: int = 8,
    lines: int | None = None,
) -> Config:
    """A configuration of one block, with a ring of ``lines`` or else of the largest size."""
    config = configuration.of_shape(problem, run, warps, 1, producers, group)
    assert config is not None
    return config if lines is None else replace(config, lines=lines)


def result_of(
    problem: ScanProblem, device: str, drift: int | None = None, **shape: int
) -> gate.GateResult:
    """The gate's result for r08 in a given shape; the outputs are NaN before the launch.

    Args:
        problem: what is computed.
        device: where.
        drift: 0 or 2: this weight is nearly 1, so values move by a column per line and hardly
            fade. With random weights, a value that crosses a halo is too small to be missed.
        shape: see ``config_of``.
    """
    operands = inputs.make(problem, device, seed=7)
    if drift is not None:
        operands.w.fill_(0.01)
        operands.w[drift].fill_(0.98)
    elif problem.logits:  # neighbours outside the line would take all the weight
        operands.w[0].select(-1, 0).fill_(60_000)
        operands.w[2].select(-1, problem.width - 1).fill_(60_000)
    else:  # weights that point outside the line too
        operands.w.uniform_(-0.5, 0.5)
    bind = bind_forward if problem.phase == "forward" else bind_backward
    return gate.check(problem, operands, bind(problem, operands, config_of(problem, **shape)))


def check(problem: ScanProblem, device: str, drift: int | None = None, **shape: int) -> None:
    result = result_of(problem, device, drift, **shape)
    assert result.passed, f"{problem}: {result.reason}"


# Against float64.


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1, 1, 1, 1), {}),
        ((2, 1, 3, 5), {"run": 4}),  # a lane whose columns are partly outside the line
        ((1, 1, 11, 31), {"group": 2, "lines": 4}),  # the ring is used three times
        ((1, 1, 9, 64), {"run": 4, "producers": 2, "group": 4, "lines": 8}),
        ((1, 1, 5, 8), {"producers": 2, "group": 2, "lines": 2}),  # one group in the ring
        ((1, 1, 3, 4), {"warps": 2}),  # the second strip is outside the line
    ],
)
def test_ragged_sizes(
    phase: Phase, size: tuple[int, int, int, int], shape: dict[str, int], device: str
) -> None:
    check(ScanProblem(*size, phase=phase), device, **shape)


@pytest.mark.parametrize(
    ("size", "shape", "phase", "drift"),
    [
        ((1, 1, 19, 64), {"warps": 2}, "forward", 2),
        ((1, 1, 19, 55), {"warps": 2, "group": 4, "lines": 8}, "backward", 0),
        ((1, 1, 51, 33), {"warps": 2, "group": 2, "lines": 8}, "forward", 0),  # a box used twice
        ((1, 1, 19, 96), {"warps": 3}, "forward", 0),  # a strip with a neighbour on either side
        ((1, 1, 36, 127), {"run": 4, "warps": 2, "producers": 2}, "forward", 2),
    ],
)
def test_strips_exchange_edges(
    size: tuple[int, int, int, int],
    shape: dict[str, int],
    phase: Phase,
    drift: int,
    device: str,
) -> None:
    problem = ScanProblem(*size, phase=phase)
    config = config_of(problem, **shape)
    assert config.strips > 1
    assert problem.height > config.halo + 2  # then a line depends on what was exchanged
    check(problem, device, drift, **shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("width", "run", "phase"),
    [(8, 2, "forward"), (6, 4, "forward"), (7, 2, "forward"), (7, 4, "backward")],
)
def test_storage_types_and_widths_of_a_copy(
    dtype: DType, width: int, run: int, phase: Phase, device: str
) -> None:
    problem = ScanProblem(1, 1, 5, width, dtype, "up", 3, phase=phase)
    config = config_of(problem, run)
    copied = ring.piece_of(config) * config.item_bytes
    expected = {8: (16, 16), 6: (8, 4), 7: (4, 2)}[width]
    assert copied == expected[dtype != "float32"]
    check(problem, device, run=run)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("batch", "channels"), [(2, 1), (2, 2)])
def test_shared_weights(phase: Phase, batch: int, channels: int, device: str) -> None:
    problem = ScanProblem(batch, channels, 3, 6, chunk=2, weights="shared", phase=phase)
    check(problem, device)


@pytest.mark.parametrize("weights", ["channel", "shared"])
@pytest.mark.parametrize(("width", "dtype", "run"), [(9, "float32", 2), (10, "bfloat16", 4)])
def test_logits(weights: Any, width: int, dtype: DType, run: int, device: str) -> None:
    problem = ScanProblem(1, 2, 4, width, dtype, weights=weights, logits=True)
    check(problem, device, run=run)


# Faults. The two strips exchange edges once, after 16 lines.

TWO_STRIPS = ScanProblem(1, 1, 19, 64)
ONE_STRIP = ScanProblem(1, 1, 5, 6)


@pytest.fixture
def fresh_kernels() -> Iterator[None]:
    """Kernels are built again, with the faults, and after the test without them."""
    builds = (forward.build_forward, backward.build_backward)
    for build in builds:
        build.cache_clear()
    yield
    for build in builds:
        build.cache_clear()


def mbarriers(**replaced: Callable[..., None]) -> SimpleNamespace:
    """The module ``mbarrier`` with some functions replaced."""
    return SimpleNamespace(**vars(mbarrier) | replaced)


def this_warp() -> int:
    thread: Any = threading.current_thread()
    return int(thread.threadIdx.x) // WARP


def delay_warp(monkeypatch: pytest.MonkeyPatch, warp: int, seconds: float) -> None:
    """Let a computing warp reach the end of every group late."""

    def sync_warp() -> None:
        if this_warp() == warp:
            time.sleep(seconds)
        simulated_block.sync()

    monkeypatch.setattr(walk_module, "sync_warp", sync_warp)


def hold_or_find(
    fault: bool, monkeypatch: pytest.MonkeyPatch, problem: ScanProblem, device: str, **shape: Any
) -> None:
    """Assert that r08 is right without the fault. With it, an output is wrong or a wait endless."""
    if not fault:
        check(problem, device, **shape)
        return
    monkeypatch.setattr(simulated_block, "PATIENCE_S", 1.0)
    try:
        passed = result_of(problem, device, **shape).passed
    except RuntimeError:
        passed = False
    assert not passed


@simulated
def test_an_exchange_left_out_is_found(
    device: str, monkeypatch: pytest.MonkeyPatch, fresh_kernels: None
) -> None:
    @device_function
    def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(walk_module, "build_exchange", lambda _: (nothing, nothing))
    for drift in (0, 2):  # each side by itself
        assert not result_of(TWO_STRIPS, device, drift, warps=2).passed


@simulated
@pytest.mark.parametrize("fault", [False, True])
def test_a_mailbox_of_the_wrong_parity_is_found(
    fault: bool, device: str, monkeypatch: pytest.MonkeyPatch, fresh_kernels: None
) -> None:
    """Without the fault, a neighbour that comes late is waited for."""

    def poll_cluster(barriers: Any, i: int, parity: int) -> None:
        mbarrier.poll_cluster(barriers, i, parity ^ fault)

    monkeypatch.setattr(edges_module, "mbarrier", mbarriers(poll_cluster=poll_cluster))
    delay_warp(monkeypatch, 0, 0.3)
    hold_or_find(fault, monkeypatch, TWO_STRIPS, device, drift=0, warps=2)


@simulated
@pytest.mark.parametrize("fault", [False, True])
def test_a_group_announced_before_its_copies_is_found(
    fault: bool, device: str, monkeypatch: pytest.MonkeyPatch, fresh_kernels: None
) -> None:
    """Asynchronous copies are written late: after an announcement that does not wait for them."""
    started: dict[int, list[Callable[[], None]]] = {}
    copy_async = wide.copy_async

    def build(*sizes: int) -> Callable[..., None]:
        copy = copy_async(*sizes)

        def start(*arguments: Any) -> None:
            started.setdefault(threading.get_ident(), []).append(lambda: copy(*arguments))

        return start

    def arrive_after_copies(barriers: Any, i: int) -> None:
        copies = started.pop(threading.get_ident(), [])
        if fault:
            mbarrier.arrive(barriers, i)
            time.sleep(0.3)
        for copy in copies:
            copy()
        if not fault:
            mbarrier.arrive(barriers, i)

    monkeypatch.setattr(wide, "copy_async", build)
    monkeypatch.setattr(ring, "mbarrier", mbarriers(arrive_after_copies=arrive_after_copies))
    hold_or_find(fault, monkeypatch, ONE_STRIP, device)


@simulated
@pytest.mark.parametrize("fault", [False, True])
def test_a_group_that_is_loaded_before_the_last_one_was_read_is_found(
    fault: bool, device: str, monkeypatch: pytest.MonkeyPatch, fresh_kernels: None
) -> None:
    def wait(barriers: Any, i: int, parity: int) -> None:
        if not fault:
            mbarrier.wait(barriers, i, parity)

    monkeypatch.setattr(ring, "mbarrier", mbarriers(wait=wait))
    delay_warp(monkeypatch, 0, 0.1)
    hold_or_find(fault, monkeypatch, ONE_STRIP, device, group=2, lines=2)


@simulated
def test_a_wait_that_does_not_end_is_an_error(
    device: str, monkeypatch: pytest.MonkeyPatch, fresh_kernels: None
) -> None:
    """The computing warp does not say that it has read a group."""
    monkeypatch.setattr(simulated_block, "PATIENCE_S", 0.5)
    monkeypatch.setattr(walk_module, "mbarrier", mbarriers(arrive=lambda *_: None))
    with pytest.raises(RuntimeError, match="does not end"):
        result_of(ONE_STRIP, device, group=2, lines=2)
