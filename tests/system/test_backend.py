import os

import pytest

from gspn2bench.errors import UsageError
from gspn2bench.system import backend


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="a system without affinity")
def test_the_simulator_keeps_to_one_core() -> None:
    if backend.activate("auto").simulated:
        assert len(os.sched_getaffinity(0)) == 1


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="no device is named 'gpu'"):
        backend.activate("gpu")


def test_auto_falls_back_to_the_simulator_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if not backend.activate("auto").simulated:
        pytest.skip("numba is set up for the GPU")
    monkeypatch.setattr(backend, "cuda_unavailable_reason", lambda: "the driver is asleep")
    monkeypatch.setenv(backend.SIMULATOR, "1")
    assert "requested with" in (backend.activate("auto").reason or "")
    assert backend.activate("sim").simulated
