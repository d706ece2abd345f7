"""Compiling and launching: the only caller of ``numba.cuda.jit``.

Numba's CUDA simulator takes over where NUMBA_ENABLE_CUDASIM=1 was set before this module was
imported; the same kernels then run thread by thread on the CPU.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

# One block on a whole GPU is what some cases are about: Numba need not warn of it.
os.environ.setdefault("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", "0")

import torch
from numba import cuda

SIMULATED: Final = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
WARP: Final = 32

Array = Any
"""A flat device array inside a kernel."""

Function = TypeVar("Function", bound=Callable[..., Any])


Observer = Callable[[Any, Sequence[Any]], AbstractContextManager[Sequence[Any]]]
"""Given a kernel and the arguments of a launch, a context around that launch, which gives the
arguments to launch with."""

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@dataclass
class LaunchCount:
    """Kernel launches seen by ``counting_launches``."""

    launches: int = 0


def kernel(name: str, *, max_registers: int | None = None) -> Callable[[Function], Any]:
    """Make a kernel of a function, under a name that profilers show.

    Args:
        name: the kernel's name, so that a profiler tells the rungs apart.
        max_registers: registers a thread may use, so that a block of that many threads fits.
    """

    def decorate(function: Function) -> Any:
        function.__name__ = function.__qualname__ = name
        options = {} if SIMULATED or max_registers is None else {"max_registers": max_registers}
        return cuda.jit(**options)(function)

    return decorate


def device_function(function: Function) -> Any:
    """Make a function that kernels call; it is inlined."""
    return cuda.jit(function, device=True)


def flat(tensor: torch.Tensor, word_bytes: int | None = None) -> Array:
    """A 1-D view of a contiguous tensor as a kernel argument; no copy, no synchronisation.

    Args:
        tensor: float32, float16, or bfloat16, which NumPy has not and which is passed as its 16
            bits: see storage.py.
        word_bytes: view the values as unsigned words of 4 or 8 bytes, to load several at once;
            None or the size of a value leaves them as they are.
    """
    view = tensor.detach().view(-1)
    if word_bytes not in (None, view.element_size()):
        view = view.view({4: torch.uint32, 8: torch.uint64}[word_bytes])
    elif view.dtype == torch.bfloat16:
        view = view.view(torch.uint16)
    return view.numpy() if SIMULATED else cuda.as_cuda_array(view, sync=False)


def configure(compiled: Any, grid: int, block: int | tuple[int, int]) -> Callable[..., None]:
    """A kernel with its grid of blocks and block of threads, on torch's current stream."""
    if SIMULATED:
        return _observed(compiled[grid, block])
    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    return compiled[grid, block, stream]  # type: ignore[no-any-return]


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Put an observer around every launch made inside; in the simulator alone."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


@contextmanager
def counting_launches() -> Iterator[LaunchCount]:
    """Count the launches made inside, in the simulator; on a GPU the driver is asked instead."""
    count = LaunchCount()

    @contextmanager
    def add(_: Any, arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
        count.launches += 1
        yield arguments

    with observing(add):
        yield count


def _observed(compiled: Any) -> Callable[..., None]:
    def launch(*arguments: Any) -> None:
        with ExitStack() as stack:
            seen: Sequence[Any] = arguments
            for observer in _observers.get():
                seen = stack.enter_context(observer(compiled, seen))
            compiled(*seen)

    return launch
