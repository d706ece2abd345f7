"""Compiling and launching: the only caller of ``numba.cuda.jit``.

If NUMBA_ENABLE_CUDASIM=1 is set before this module is imported, Numba's CUDA simulator runs the
same kernels on the CPU, thread by thread.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

# Some cases measure a single block on a whole GPU: silence the warning.
os.environ.setdefault("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", "0")

import torch
from numba import cuda

SIMULATED: Final = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
WARP: Final = 32

Array = Any
"""A flat device array inside a kernel."""

Function = TypeVar("Function", bound=Callable[..., Any])


Observer = Callable[[Any, Sequence[Any]], AbstractContextManager[Sequence[Any]]]
"""Called with a kernel and the arguments of a launch. Returns a context for the launch, which
yields the arguments to use."""

_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@dataclass
class LaunchCount:
    """Kernel launches counted by ``counting_launches``."""

    launches: int = 0


def kernel(name: str, *, max_registers: int | None = None) -> Callable[[Function], Any]:
    """Compile a function as a kernel.

    Args:
        name: of the kernel, as profilers show it.
        max_registers: limit of registers per thread, with which a block fits a multiprocessor.
    """

    def decorate(function: Function) -> Any:
        function.__name__ = function.__qualname__ = name
        options = {} if SIMULATED or max_registers is None else {"max_registers": max_registers}
        return cuda.jit(**options)(function)

    return decorate


def device_function(function: Function) -> Any:
    """Compile a function that kernels call; it is inlined."""
    return cuda.jit(function, device=True)


def instruction(kinds: str, generate: Callable[..., Any]) -> Callable[[Function], Any]:
    """Expose a PTX instruction that Numba lacks, as a function that kernels call.

    The decorated function is the simulator's fallback. It takes one or two values.

    Args:
        kinds: types of the result and of the arguments: "u" for uint32, "f" for float32.
        generate: called with llvmlite.ir, a builder and the arguments' values; returns the value of
            the result.
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
    """A contiguous tensor as a kernel argument of one dimension, on a GPU.

    Args:
        tensor: of any shape.
        dtype: type of the words that the kernel sees.
    """

    tensor: torch.Tensor
    dtype: torch.dtype


def flat(tensor: torch.Tensor, word_bytes: int | None = None) -> Array:
    """A contiguous tensor as a kernel argument of one dimension; no copy, no synchronisation.

    Args:
        tensor: float32, float16 or bfloat16. A kernel sees bfloat16 as uint16: see storage.py.
        word_bytes: 4 or 8 to pass several values as one unsigned word, for kernels that load them
            at once; None, or the size of one value, to pass the values themselves.
    """
    dtype = word_type(tensor.dtype, word_bytes)
    if SIMULATED:
        return tensor.detach().view(-1).view(dtype).numpy()
    return FlatArray(tensor, dtype)


class ArrayType(NamedTuple):
    """An array argument of a prepared launch.

    Args:
        word: type of the words that the kernel sees.
        elements: number of words.
    """

    word: torch.dtype
    elements: int


def word_type(dtype: torch.dtype, word_bytes: int | None = None) -> torch.dtype:
    """The type of the words that a kernel sees of a tensor; arguments as ``flat``."""
    if word_bytes not in (None, dtype.itemsize):
        return {4: torch.uint32, 8: torch.uint64}[word_bytes]
    return torch.uint16 if dtype == torch.bfloat16 else dtype


def bind_launch(
    compiled: Any,
    grid: int,
    block: int | tuple[int, int],
    *arguments: Any,
    shared_bytes: int = 0,
    cluster: int = 1,
) -> Callable[[], None]:
    """Prepare one launch. The returned call makes it, on torch's current stream.

    Args:
        compiled: a kernel, from ``kernel``.
        grid: number of blocks.
        block: threads per block.
        arguments: arrays, from ``flat``, and whole numbers.
        shared_bytes: dynamic shared memory per block.
        cluster: blocks per cluster, a divisor of ``grid``; 1 in the simulator. See cluster.py.
    """
    if SIMULATED:  # a simulated kernel remembers only its last configuration
        return lambda: _observed(compiled[grid, block, 0, shared_bytes])(*arguments)
    from gspn2bench.kernels.prebound_launch import PreboundLaunch

    return PreboundLaunch(compiled, grid, block, arguments, shared_bytes, cluster)


def prepare_launch(
    compiled: Any,
    grid: int,
    block: int,
    arrays: Sequence[ArrayType],
    numbers: Sequence[int],
    *,
    shared_bytes: int = 0,
    cluster: int = 1,
) -> Callable[..., None]:
    """Prepare one launch for tensors of given sizes. The returned call takes the tensors.

    Args:
        compiled: a kernel, from ``kernel``, whose arrays come before its numbers.
        grid: number of blocks.
        block: threads per block.
        arrays: type of each array.
        numbers: the whole numbers.
        shared_bytes: dynamic shared memory per block.
        cluster: blocks per cluster; in the simulator 1.
    """
    if SIMULATED:

        def simulate(*tensors: torch.Tensor) -> None:
            views = [
                _storage_of(tensor).view(array.word).numpy()
                for array, tensor in zip(arrays, tensors, strict=True)
            ]
            _observed(compiled[grid, block, 0, shared_bytes])(*views, *numbers)

        return simulate
    from gspn2bench.kernels.prebound_launch import PreparedLaunch

    return PreparedLaunch(compiled, grid, block, arrays, numbers, shared_bytes, cluster)


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Observe every launch made inside the context; in the simulator only."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


@contextmanager
def counting_launches() -> Iterator[LaunchCount]:
    """Count the launches made inside the context; in the simulator only."""
    count = LaunchCount()

    @contextmanager
    def add(_: Any, arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
        count.launches += 1
        yield arguments

    with observing(add):
        yield count


def _storage_of(tensor: torch.Tensor) -> torch.Tensor:
    """The elements of a tensor without gaps, in the order of memory, as one axis."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _observed(compiled: Any) -> Callable[..., None]:
    def launch(*arguments: Any) -> None:
        with ExitStack() as stack:
            seen: Sequence[Any] = arguments
            for observer in _observers.get():
                seen = stack.enter_context(observer(compiled, seen))
            compiled(*seen)

    return launch
