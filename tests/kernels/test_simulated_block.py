"""The simulator's mbarriers and exchange within a warp."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gspn2bench.kernels import mbarrier, simulated_block, warp
from gspn2bench.kernels.jit import SIMULATED

pytestmark = pytest.mark.skipif(not SIMULATED, reason="tests what only the simulator runs")

Function = Callable[[int], Any]


def run(threads: int, function: Function) -> list[Any]:
    """The results of ``function(number)`` in the threads of a block; the first error is raised."""
    manager = SimpleNamespace()
    results: list[Any] = [None] * threads
    errors: list[BaseException] = []

    def target(number: int) -> None:
        try:
            results[number] = function(number)
        except BaseException as error:
            errors.append(error)

    workers: list[Any] = [threading.Thread(target=target, args=(i,)) for i in range(threads)]
    for number, worker in enumerate(workers):
        worker.threadIdx, worker._manager = SimpleNamespace(x=number), manager
        worker.abort = False
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def barriers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three mbarriers in shared memory, and little patience."""
    monkeypatch.setattr(simulated_block, "PATIENCE_S", 0.05)
    words = np.full(3, 7, np.uint64)  # garbage before it is initialized
    mbarrier.init(words, 1, 2)
    return words


def ended(barriers: Any, parity: int) -> bool:
    """Whether a wait for the phase of this parity passes."""
    try:
        run(1, lambda _: mbarrier.wait(barriers, 1, parity))
    except RuntimeError:
        return False
    return True


def test_the_phase_before_the_first_has_ended(barriers: Any) -> None:
    assert ended(barriers, 1)
    with pytest.raises(RuntimeError, match="mbarrier 1: the phase of parity 0 does not end"):
        run(1, lambda _: mbarrier.wait(barriers, 1, 0))


def test_a_phase_ends_with_its_last_arrival(barriers: Any) -> None:
    for parity in (0, 1, 0, 1):  # the count begins again in every phase
        mbarrier.arrive(barriers, 1)
        assert not ended(barriers, parity)
        mbarrier.arrive_after_copies(barriers, 1)
        assert ended(barriers, parity)
        assert not ended(barriers, 1 - parity)
    assert barriers[0] == barriers[2] == 7


def test_bytes_may_arrive_before_they_are_expected(barriers: Any) -> None:
    values = np.zeros(4, np.float32)
    mbarrier.send_pair(values, 2, 3.0, 4.0, barriers, 1, 0)
    assert values.tolist() == [0, 0, 3, 4]
    mbarrier.expect(barriers, 1, 16)
    mbarrier.arrive(barriers, 1)
    assert not ended(barriers, 0)  # 8 of 16 bytes
    mbarrier.send_pair(values, 0, 1.0, 2.0, barriers, 1, 0)
    assert ended(barriers, 0)


def test_all_bytes_before_the_last_arrival(barriers: Any) -> None:
    values = np.zeros(2, np.float32)
    mbarrier.expect(barriers, 1, 8)
    mbarrier.send_pair(values, 0, 1.0, 2.0, barriers, 1, 0)
    assert not ended(barriers, 0)
    mbarrier.arrive(barriers, 1)
    assert ended(barriers, 0)


def test_a_wait_sees_what_came_before_the_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    barriers, values = np.zeros(1, np.uint64), np.zeros(8)
    mbarrier.init(barriers, 0, 7)

    def work(number: int) -> float:
        if number:
            values[number] = number
            mbarrier.arrive(barriers, 0)
        mbarrier.wait(barriers, 0, 0)
        return float(values.sum())

    assert run(8, work) == [28.0] * 8


def test_a_wait_ends_when_the_block_is_aborted() -> None:
    barriers = np.zeros(1, np.uint64)
    mbarrier.init(barriers, 0, 1)

    def wait(_: int) -> None:
        thread: Any = threading.current_thread()
        thread.abort = True
        mbarrier.wait(barriers, 0, 0)

    with pytest.raises(RuntimeError, match="does not end"):
        run(1, wait)


def test_lanes_get_the_values_of_their_neighbours() -> None:
    def exchange(number: int) -> list[tuple[int, int]]:
        return [warp.neighbours(1000 * k + number, -1000 * k - number) for k in range(1, 4)]

    results = run(64, exchange)  # two warps, which do not exchange
    for number, result in enumerate(results):
        lane = number % 32
        left, right = number - (lane > 0), number + (lane < 31)
        assert result == [(-1000 * k - left, 1000 * k + right) for k in range(1, 4)]


def test_a_warp_waits_for_its_last_lane() -> None:
    stored = np.zeros(32)

    def store(number: int) -> float:
        stored[number] = 1
        warp.sync_warp()
        return float(stored.sum())

    assert run(32, store) == [32.0] * 32


def test_a_lane_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_block, "PATIENCE_S", 0.05)
    with pytest.raises(threading.BrokenBarrierError):
        run(31, lambda _: warp.sync_warp())


def test_warps_are_numbered() -> None:
    assert run(96, lambda number: int(warp.warp_number(np.uint32(number)))) == [
        number // 32 for number in range(96)
    ]
