import pytest

from gspn2bench import backend

BACKEND = backend.activate("auto")  # before any test imports numba


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if BACKEND.simulated:
        skip = pytest.mark.skip(reason=f"needs a GPU: {BACKEND.reason}")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def device() -> str:
    return BACKEND.torch_device
