"""The exchange of r07's clusters without a GPU: its instructions are replaced by Python functions.

This checks addresses, byte counts and sums, in a fixed order of blocks. It does not check waits.
"""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gspn2bench.kernels.r07_gspn2 import exchange, section
from gspn2bench.problem import ScanProblem

BLOCK = 1 << 24
"""Distance between the shared memories of two blocks, in the replaced addresses."""
BASE = 1024
"""Address of a section in its block."""


class Cluster:
    """The shared memory of a cluster's blocks, and the bytes that its mbarriers have counted."""

    def __init__(self, blocks: int, values: int) -> None:
        self.sections = [np.full(values, np.nan, np.float32) for _ in range(blocks)]
        self.bytes: Counter[int] = Counter()
        self.expected: Counter[int] = Counter()
        self.block = 0

    def store(self, address: int, value: float) -> None:
        block, offset = divmod(int(address), BLOCK)
        index, rest = divmod(offset - BASE, 4)
        assert rest == 0
        self.sections[block][index] = value

    def store_pair(self, address: int, first: float, second: float, mbarrier: int) -> None:
        assert address % 8 == 0
        assert address // BLOCK == mbarrier // BLOCK
        self.store(address, first)
        self.store(address + 4, second)
        self.bytes[int(mbarrier)] += 8

    def store_if(self, address: int, value: float, mbarrier: int, condition: int) -> None:
        if condition:
            assert address // BLOCK == mbarrier // BLOCK
            self.store(address, value)
            self.bytes[int(mbarrier)] += 4

    def replace_instructions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nothing(*_: Any) -> None:
            pass

        functions: dict[str, Any] = {
            "device_function": lambda function: function,
            "storage_of": lambda _: SimpleNamespace(narrow=np.float32),
            "move": lambda index, distance: int(index) + int(distance),
            "cuda": SimpleNamespace(syncwarp=nothing),
            "shared_address": lambda _: np.uint32(BASE + self.block * BLOCK),
            "remote_address": lambda address, rank: np.uint32(address % BLOCK + rank * BLOCK),
            "store_remote_pair": self.store_pair,
            "store_remote_if": self.store_if,
            "mbarrier_expect": lambda address, count: self.expected.update({int(address): count}),
        }
        waits = ("cluster_arrive", "cluster_arrive_relaxed", "cluster_wait")
        for name in (*waits, "mbarrier_init", "mbarrier_wait"):
            functions[name] = nothing
        for name, function in functions.items():
            monkeypatch.setattr(exchange, name, function)


@pytest.mark.parametrize("blocks", [2, 4, 8])
@pytest.mark.parametrize(
    ("width", "changes"),
    [
        (64, {}),
        (37, {}),  # sections beyond the line
        (60, {"line_words": 30, "threads": 32, "pack": 2}),
        (90, {"line_words": 90, "threads": 32, "words": 3}),  # an odd number of columns per thread
    ],
)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_every_value_arrives_and_is_summed(
    blocks: int,
    width: int,
    changes: dict[str, int],
    direction: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = ScanProblem(1, blocks, 16, width, "float32", direction, None, "shared", "backward")
    config = replace(section.choose(problem), depth=4, **changes)
    layout = section.Layout(config)
    cluster = Cluster(blocks, layout.size)
    cluster.replace_instructions(monkeypatch)
    open_section, send, _, finish = exchange.build_exchange(config)

    run, rows = config.words * config.pack, config.depth - 1  # one group, not whole
    padded = config.threads * run
    generator = np.random.default_rng(0)
    g, h = generator.standard_normal((2, rows, blocks, padded)).astype(np.float32)
    g[..., width:] = h[..., width:] = 0
    places = {}
    for cluster.block in range(blocks):
        for thread in range(config.threads):
            places[cluster.block, thread] = open_section(
                cluster.sections[cluster.block], np.uint32(thread), np.uint32(cluster.block)
            )
    for (block, thread), place in places.items():
        cluster.block = block
        own = slice(thread * run, (thread + 1) * run)
        for k in range(rows):
            values = g[k, block, own], h[k, block, own]
            send(cluster.sections[block], place, np.uint32(0), k, *values)

    lines = np.full((3, rows, width), np.nan, np.float32)
    flat = [plane.reshape(-1) for plane in lines]
    origin = 0 if direction == "up" else (rows - 1) * width  # the walk begins at the last line
    for (block, _), place in places.items():
        cluster.block = block
        finish(cluster.sections[block], place, np.uint32(0), np.uint32(rows), origin, *flat)
    assert cluster.bytes == cluster.expected
    assert len(cluster.bytes) == blocks

    in_walk = lines if direction == "up" else lines[:, ::-1]
    around = np.pad(h, ((0, 0), (0, 0), (1, 1)))
    for shift in range(3):
        expected = (g * around[..., shift : shift + padded]).sum(1)[:, :width]
        np.testing.assert_allclose(in_walk[shift], expected, rtol=1e-5, atol=1e-5)
