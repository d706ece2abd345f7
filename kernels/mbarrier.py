"""Mbarriers by their index in an array of shared memory; in the simulator too.

An mbarrier counts arrivals, and bytes that are stored asynchronously. Its phase ends when both have
arrived, and the next phase begins. A thread waits for the end of a phase by its parity: the first
phase has parity 0. A wait for parity 1 passes at once before that.

Source: PTX ISA, mbarrier.
"""

from typing import Any

import numpy as np

from gspn2bench.kernels import simulated_block
from gspn2bench.kernels.cluster import (
    mbarrier_arrive,
    mbarrier_arrive_after_copies,
    mbarrier_expect,
    mbarrier_init,
    mbarrier_poll_cluster,
    mbarrier_wait,
    remote_address,
    shared_address,
    store_remote_pair,
)
from gspn2bench.kernels.jit import SIMULATED, Array, device_function


@device_function
def _address(barriers: Array, i: int) -> Any:
    return np.uint32(shared_address(barriers) + np.uint32(8) * np.uint32(i))


def _init(barriers: Array, i: int, count: int) -> None:
    mbarrier_init(_address(barriers, i), np.uint32(count))


def _arrive(barriers: Array, i: int) -> None:
    mbarrier_arrive(_address(barriers, i))


def _arrive_after_copies(barriers: Array, i: int) -> None:
    mbarrier_arrive_after_copies(_address(barriers, i))


def _expect(barriers: Array, i: int, bytes_: int) -> None:
    mbarrier_expect(_address(barriers, i), np.uint32(bytes_))


def _wait(barriers: Array, i: int, parity: int) -> None:
    mbarrier_wait(_address(barriers, i), np.uint32(parity))


def _poll_cluster(barriers: Array, i: int, parity: int) -> None:
    mbarrier_poll_cluster(_address(barriers, i), np.uint32(parity))


def _send_pair(
    values: Array, index: int, first: float, second: float, barriers: Array, i: int, rank: int
) -> None:
    address = np.uint32(shared_address(values) + np.uint32(4) * np.uint32(index))
    barrier = remote_address(_address(barriers, i), np.uint32(rank))
    store_remote_pair(remote_address(address, np.uint32(rank)), first, second, barrier)


def _simulated_arrive(barriers: Array, i: int) -> None:
    simulated_block.change(barriers, i, 1, 0)


def _simulated_expect(barriers: Array, i: int, bytes_: int) -> None:
    simulated_block.change(barriers, i, 1, int(bytes_))


def _simulated_send_pair(
    values: Array, index: int, first: float, second: float, barriers: Array, i: int, _rank: int
) -> None:
    values[index], values[index + 1] = first, second
    simulated_block.change(barriers, i, 0, -8)


def _either(on_gpu: Any, simulated: Any) -> Any:
    return simulated if SIMULATED else device_function(on_gpu)


init = _either(_init, simulated_block.init)
"""(barriers, i, count): set up a barrier for this number of arrivals per phase."""
arrive = _either(_arrive, _simulated_arrive)
"""(barriers, i): arrive. Threads that wait for the phase see what this thread did before."""
arrive_after_copies = _either(_arrive_after_copies, _simulated_arrive)
"""(barriers, i): arrive once the asynchronous copies of this thread have been written."""
expect = _either(_expect, _simulated_expect)
"""(barriers, i, bytes): arrive, and let the phase last until this many bytes have been sent."""
wait = _either(_wait, simulated_block.wait)
"""(barriers, i, parity): wait until the phase of this parity has ended."""
poll_cluster = _either(_poll_cluster, simulated_block.wait)
"""The same, for data that other blocks of the cluster send; the threads do not sleep."""
send_pair = _either(_send_pair, _simulated_send_pair)
"""(values, index, first, second, barriers, i, rank): send two float32 to block ``rank``.

They go to ``values[index]`` and the next element, in that block's shared memory, and add 8 bytes to
its barrier ``i``. ``index`` is even.
"""
