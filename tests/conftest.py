import os
from collections.abc import Iterator

import pytest

from gspn2bench.system import backend

from .helpers import torchvision_operators

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
BACKEND = backend.activate("auto")  # before any test imports numba
torchvision_operators.declare()


def pytest_configure(config: pytest.Config) -> None:
    """Where several processes run the tests, each takes a core of its own.

    The simulator keeps to one, which the processes would have from the first of them.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if not (CORES and BACKEND.simulated):
        return
    if worker:
        os.sched_setaffinity(0, {CORES[int(worker) % len(CORES)]})
    elif config.getoption("numprocesses", None):
        os.sched_setaffinity(0, CORES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if BACKEND.simulated:
        skip = pytest.mark.skip(reason=f"needs a GPU: {BACKEND.reason}")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def device() -> str:
    return "cpu" if BACKEND.simulated else "cuda"


@pytest.fixture
def small_transposes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One warp a tile: in the simulator each thread of a block costs as much as one of a GPU's."""
    from gspn2bench.kernels import transposed

    if BACKEND.simulated:
        monkeypatch.setattr(transposed, "ROWS", 1)
    transposed.build_transpose.cache_clear()
    yield
    transposed.build_transpose.cache_clear()
