"""Compiling and launching: the only caller of ``numba.cuda.jit``.

Numba's CUDA simulator takes over where NUMBA_ENABLE_CUDASIM=1 was set before this module was
imported; the same kernels then run thread by thread on the CPU.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

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


def instruction(kinds: str, generate: Callable[..., Any]) -> Callable[[Function], Any]:
    """Make a function that kernels call of instructions that Numba has no name for.

    The function decorated is what the simulator runs instead; it takes one value or two.

    Args:
        kinds: of the result and of the arguments: "u" is uint32, "f" float32.
        generate: given LLVM's module of types, a builder and the arguments' values, gives the
            result's value.
    """
    if SIMULATED:
        return lambda function: function

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    result, *arguments = ({"u": types.uint32, "f": types.float32}[kind] for kind in kinds)
    signature = result(*arguments)

    def lower(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return generate(ir, builder, *values)

    def one(_: Any, _first: Any) -> Any:
        return signature, lower

    def two(_: Any, _first: Any, _second: Any) -> Any:
        return signature, lower

    device_intrinsic = intrinsic({1: one, 2: two}[len(arguments)])
    return lambda _function: device_intrinsic


class FlatArray(NamedTuple):
    """A contiguous tensor as a kernel on a GPU takes it: in one dimension, word by word.

    Args:
        tensor: of any shape.
        dtype: of a word.
    """

    tensor: torch.Tensor
    dtype: torch.dtype


def flat(tensor: torch.Tensor, word_bytes: int | None = None) -> Array:
    """A contiguous tensor as a kernel argument of one dimension; no copy, no synchronisation.

    Args:
        tensor: float32, float16, or bfloat16, which NumPy has not and which is passed as its 16
            bits: see storage.py.
        word_bytes: take the values as unsigned words of 4 or 8 bytes, to load several at once;
            None or the size of a value leaves them as they are.
    """
    dtype = torch.uint16 if tensor.dtype == torch.bfloat16 else tensor.dtype
    if word_bytes not in (None, tensor.element_size()):
        dtype = {4: torch.uint32, 8: torch.uint64}[word_bytes]
    if SIMULATED:
        return tensor.detach().view(-1).view(dtype).numpy()
    return FlatArray(tensor, dtype)


def bind_launch(
    compiled: Any,
    grid: int,
    block: int | tuple[int, int],
    *arguments: Any,
    shared_bytes: int = 0,
) -> Callable[[], None]:
    """The call that makes one launch: everything fixed but torch's current stream.

    Args:
        compiled: by ``kernel``.
        grid: blocks.
        block: threads of a block.
        arguments: arrays, by ``flat``, and whole numbers.
        shared_bytes: dynamic shared memory of a block.
    """
    if SIMULATED:  # whose kernels keep one configuration, the last
        return lambda: _observed(compiled[grid, block, 0, shared_bytes])(*arguments)
    from gspn2bench.kernels.prebound_launch import PreboundLaunch

    return PreboundLaunch(compiled, grid, block, arguments, shared_bytes)


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
