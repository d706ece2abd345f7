"""The thread on which a backward runs."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gspn2bench.measure.threads import backward_here, backward_in_range
from gspn2bench.system import executables


class Recorded(torch.autograd.Function):
    """The identity; its backward records the thread that it runs on."""

    threads: list[int] = []  # noqa: RUF012

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> Tensor:
        Recorded.threads.append(threading.get_native_id())
        return grad


def thread_of_backward(device: str) -> int:
    x = torch.ones(3, device=device, requires_grad=True)
    torch.autograd.grad(Recorded.apply(x).sum(), [x])
    return Recorded.threads.pop()


@pytest.mark.parametrize("profiler", [None, "nsys", "ncu"])
def test_only_under_ncu_does_a_backward_change_its_thread(monkeypatch, profiler):
    monkeypatch.delenv(executables.PROFILED, raising=False)
    if profiler:
        monkeypatch.setenv(executables.PROFILED, profiler)
    with backward_in_range():
        assert torch._C._is_multithreading_enabled() == (profiler != "ncu")
    assert torch._C._is_multithreading_enabled()


@pytest.mark.gpu
def test_a_backward_runs_on_the_thread_of_the_range():
    mine = threading.get_native_id()
    assert thread_of_backward("cuda") != mine
    with backward_here():
        assert thread_of_backward("cuda") == mine
