"""The exchange of r08's edges between blocks of a cluster, without a GPU.

Every lane of every block is a Python thread. An asynchronous store goes to the memory of the block
that it names. This checks addresses, byte counts, parities and waits.
"""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gspn2bench.kernels import mbarrier, simulated_block
from gspn2bench.kernels.jit import SIMULATED, WARP
from gspn2bench.kernels.r08_strips import configuration, edges
from gspn2bench.kernels.r08_strips.configuration import HALO_LANES, OWN_LANES, Config
from gspn2bench.problem import ScanProblem

pytestmark = pytest.mark.skipif(not SIMULATED, reason="runs the simulator's mbarriers")
EXCHANGES = 5  # each mailbox is used at least twice


class Cluster:
    """The shared memory of a cluster's blocks."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.edges = [np.full(config.edges, np.nan, np.float32) for _ in range(config.blocks)]
        self.barriers = [np.zeros(config.barriers, np.uint64) for _ in range(config.blocks)]
        self.managers = [SimpleNamespace() for _ in range(config.blocks)]

    def send_pair(
        self, _edges: Any, index: int, first: float, second: float, _: Any, i: int, rank: int
    ) -> None:
        assert index % 2 == 0
        self.edges[rank][index], self.edges[rank][index + 1] = first, second
        simulated_block.change(self.barriers[rank], i, 0, -8)


def sent(strip: int, lane: int, j: int, number: int) -> float:
    """Column j of a lane before an exchange: a different value for each."""
    return ((number * 64 + strip) * WARP + lane) * 4 + j


@pytest.mark.parametrize("run", [2, 4])
@pytest.mark.parametrize(("blocks", "warps"), [(1, 2), (1, 3), (2, 1), (2, 2), (4, 1), (3, 3)])
def test_a_halo_gets_the_columns_of_its_neighbours(
    blocks: int, warps: int, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = ScanProblem(1, 1, 64, blocks * warps * OWN_LANES * run)
    config = configuration.of_shape(problem, run, warps, blocks, 1, 8)
    assert config is not None
    cluster = Cluster(config)
    functions = SimpleNamespace(**vars(mbarrier) | {"send_pair": cluster.send_pair})
    monkeypatch.setattr(edges, "mbarrier", functions)
    monkeypatch.setattr(edges, "device_function", lambda function: function)
    monkeypatch.setattr(simulated_block, "PATIENCE_S", 20.0)
    for barriers in cluster.barriers:
        edges.build_init_mailboxes(config)(barriers)
    send, receive = edges.build_exchange(config)
    errors: list[BaseException] = []

    def walk(rank: int, warp: int, lane: int) -> None:
        strip = rank * warps + warp
        for number in range(EXCHANGES):
            values = [np.float32(sent(strip, lane, j, number)) for j in range(run)]
            arguments = (np.uint32(number), np.uint32(rank), np.uint32(warp), np.uint32(lane))
            memory = cluster.edges[rank], cluster.barriers[rank]
            send(*memory, values, *arguments)
            receive(*memory, values, *arguments)
            source, source_lane = strip, lane
            if lane < HALO_LANES and strip > 0:
                source, source_lane = strip - 1, lane + OWN_LANES
            if lane >= HALO_LANES + OWN_LANES and strip + 1 < config.strips:
                source, source_lane = strip + 1, lane - OWN_LANES
            assert values == [sent(source, source_lane, j, number) for j in range(run)]
            simulated_block.sync()  # as between two groups of lines

    def run_lane(rank: int, warp: int, lane: int) -> None:
        try:
            walk(rank, warp, lane)
        except BaseException as error:
            errors.append(error)

    threads: list[Any] = []
    for number in range(config.strips * WARP):
        rank, thread = divmod(number, warps * WARP)
        lane: Any = threading.Thread(target=run_lane, args=(rank, *divmod(thread, WARP)))
        lane.threadIdx, lane._manager = SimpleNamespace(x=thread), cluster.managers[rank]
        lane.abort = False
        threads.append(lane)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
