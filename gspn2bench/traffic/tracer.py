"""Global-memory traffic of a call, sector by sector, from the simulator.

The simulator runs a kernel thread by thread in Python. The tracer replaces each array argument by
one that records every access: thread, place in the program, address and size. A request is one load
or store instruction of one warp. Two accesses belong to the same request if they agree in

- launch, block, warp, and whether they load or store,
- the site: the instruction in the kernel, or in a device function reached by the same calls,
- the iteration of every ``for`` loop over ``range`` around the site, and
- how often the lane has executed the site in this iteration.

Lanes that take a different branch, or fewer iterations, are not part of the request. They rejoin
the warp afterwards, as on a GPU. The iterations of a ``while`` loop are not tracked; the number of
executions of the site takes their place.

A request costs the distinct sectors of 32 bytes that its lanes touch. Addresses are real host
addresses. torch aligns allocations to 64 bytes on the CPU and to 512 bytes on a GPU. Both are whole
sectors, so the sectors are those of a GPU. Results do not depend on the order of the threads.
"""

import dis
import operator
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from types import CodeType
from typing import Any, Final

import numpy as np

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call

SECTOR_BYTES: Final = 32

_Word = tuple[int, int]
"""An address and a size in bytes."""
_Access = tuple[object, int, int]
"""Key of the request, address, and size in bytes."""


@dataclass(frozen=True)
class Traffic:
    """Requests of warps to global memory, and the bytes that they touch.

    Args:
        load_requests: load instructions, per warp.
        load_sectors: distinct sectors of 32 bytes per load, summed over the loads.
        store_requests: store instructions, per warp.
        store_sectors: distinct sectors of 32 bytes per store, summed over the stores.
        read_bytes: distinct bytes read.
        written_bytes: distinct bytes written.
        touched_bytes: distinct bytes read or written.
        reread_bytes: bytes of loads that an earlier load has already read. A byte that several
            lanes of one load read counts once for that load.
    """

    load_requests: int
    load_sectors: int
    store_requests: int
    store_sectors: int
    read_bytes: int
    written_bytes: int
    touched_bytes: int
    reread_bytes: int

    @property
    def sector_bytes(self) -> int:
        """Bytes of the sectors of all requests."""
        return SECTOR_BYTES * (self.load_sectors + self.store_sectors)


@dataclass(frozen=True)
class Trace:
    """The traffic of one call.

    Args:
        launches: kernel launches of the call.
        total: traffic of all arrays, scratch included.
    """

    launches: int
    total: Traffic


def trace(call: Call) -> Trace:
    """Run a call in the simulator and record its traffic.

    Args:
        call: launches made by ``jit.bind_launch``.

    Raises:
        RuntimeError: kernels run on a GPU; only the simulator can be traced.
    """
    if not jit.SIMULATED:
        raise RuntimeError("trace: kernels run on a GPU; only the simulator can be traced")
    recorder = _Recorder()
    with jit.observing(recorder.observe):
        call()
    return recorder.result()


class _Thread(threading.local):
    """State of the current CUDA thread; every launch starts new threads."""

    def __init__(self) -> None:
        thread = threading.current_thread()
        block = getattr(thread, "blockIdx", ())  # the host thread has no block
        self.warp = (*block, getattr(thread, "thread_id", 0) // jit.WARP)
        self.iterations: list[int] = []  # of the enclosing loops, outermost first
        self.executions: Counter[object] = Counter()


class _Recorder:
    def __init__(self) -> None:
        self.loads: list[_Access] = []
        self.stores: list[_Access] = []
        self._starts: dict[int, tuple[CodeType, list[int]]] = {}
        self._thread = _Thread()
        self._launches = 0
        self._kernel: CodeType | None = None

    @contextmanager
    def observe(self, kernel: Any, arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Observe a launch for ``jit``: the kernel gets arrays that record their accesses."""
        self._launches += 1
        self._kernel = kernel.py_func.__code__
        modules = [names for names in _modules(kernel.py_func) if "range" not in names]
        for names in modules:
            names["range"] = self._range
        try:
            yield [self.watch(a) if isinstance(a, np.ndarray) else a for a in arguments]
        finally:
            for names in modules:
                del names["range"]

    def watch(self, array: "np.ndarray[Any, Any]") -> "_Array":
        """Wrap a NumPy array in one that records its accesses."""
        start = array.__array_interface__["data"][0]
        return _Array(array, start, self)

    def record(self, accesses: list[_Access], address: int, size: int) -> None:
        """Record an access made by the caller's caller."""
        thread = self._thread
        site = (self._site(), tuple(thread.iterations))
        execution = thread.executions[site]
        thread.executions[site] = execution + 1
        accesses.append(((self._launches, thread.warp, site, execution), address, size))

    def result(self) -> Trace:
        """The traffic of all recorded accesses."""
        return Trace(self._launches, _traffic(self.loads, self.stores))

    def _site(self) -> tuple[int, ...]:
        """The instructions on the call stack, from the access out to the kernel."""
        frame: Any = sys._getframe(3)
        site: list[int] = []
        while True:
            code = frame.f_code
            known = self._starts.get(id(code))
            if known is None:
                known = self._starts[id(code)] = (code, _instruction_starts(code))
            site += (id(code), known[1][frame.f_lasti // 2])
            if code is self._kernel:
                return tuple(site)
            frame = frame.f_back

    def _range(self, *bounds: Any) -> Iterator[int]:
        """The ``range`` of a kernel, which records the iteration that the thread is in."""
        iterations = self._thread.iterations
        depth = len(iterations)
        iterations.append(0)
        try:
            for iterations[depth], value in enumerate(range(*bounds)):
                yield value
        finally:
            del iterations[depth:]


class _Array:
    """A device array with the attributes and operations that kernels use."""

    def __init__(self, array: "np.ndarray[Any, Any]", start: int, recorder: _Recorder) -> None:
        self._array, self._start, self._recorder = array, start, recorder
        self.shape, self.ndim, self.size = array.shape, array.ndim, array.size
        self.dtype, self.itemsize = array.dtype, array.itemsize

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Any:
        value = self._array[index]
        if isinstance(value, np.ndarray):
            return self._recorder.watch(value)
        self._recorder.record(self._recorder.loads, self._address(index), self.itemsize)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        address = self._address(index)
        self._array[index] = value
        self._recorder.record(self._recorder.stores, address, self.itemsize)

    def _address(self, index: Any) -> int:
        """The address of an element; a negative index counts from the end, as on a GPU."""
        address = self._start
        indices = index if isinstance(index, tuple) else (index,)
        for i, extent, stride in zip(
            map(operator.index, indices), self._array.shape, self._array.strides, strict=True
        ):
            address += (i if i >= 0 else i + extent) * stride
        return address


def _modules(function: Any) -> list[dict[str, Any]]:
    """The distinct globals of a kernel and of the device functions that it calls."""
    modules: dict[int, dict[str, Any]] = {}
    functions, seen = [function], {function}
    while functions:
        current = functions.pop()
        modules[id(current.__globals__)] = current.__globals__
        for value in _referenced(current):
            inner = getattr(value, "py_func", None)
            if inner is not None and inner not in seen:
                seen.add(inner)
                functions.append(inner)
    return list(modules.values())


def _referenced(function: Any) -> Iterator[Any]:
    """The values of the globals and closure variables that a function refers to."""
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # in a branch that this configuration does not take: unset
            yield cell.cell_contents


def _instruction_starts(code: CodeType) -> list[int]:
    """For each word of the bytecode, the offset of the instruction that it belongs to.

    After the interpreter specialises an instruction, a frame may point to one of its cache words.
    """
    starts = [0] * (len(code.co_code) // 2)
    for instruction in dis.get_instructions(code):
        starts[instruction.offset // 2] = instruction.offset
    return list(accumulate(starts, max))


def _traffic(loads: Iterable[_Access], stores: Iterable[_Access]) -> Traffic:
    load_requests, store_requests = _requests(loads), _requests(stores)
    read, written = set(chain(*load_requests)), set(chain(*store_requests))
    read_bytes = _distinct_bytes(read)
    load_bytes = sum(size for words in load_requests for _, size in words)
    return Traffic(
        load_requests=len(load_requests),
        load_sectors=sum(map(_sectors, load_requests)),
        store_requests=len(store_requests),
        store_sectors=sum(map(_sectors, store_requests)),
        read_bytes=read_bytes,
        written_bytes=_distinct_bytes(written),
        touched_bytes=_distinct_bytes(read | written),
        reread_bytes=load_bytes - read_bytes,
    )


def _requests(accesses: Iterable[_Access]) -> list[set[_Word]]:
    """The distinct words of each request."""
    requests: dict[object, set[_Word]] = defaultdict(set)
    for request, address, size in accesses:
        requests[request].add((address, size))
    return list(requests.values())


def _sectors(words: Iterable[_Word]) -> int:
    return len(
        {end // SECTOR_BYTES for address, size in words for end in (address, address + size - 1)}
    )


def _distinct_bytes(words: Iterable[_Word]) -> int:
    """Distinct bytes of words, which may overlap because their sizes differ."""
    covered, end = 0, 0
    for address, size in sorted(words):
        covered += max(0, address + size - max(end, address))
        end = max(end, address + size)
    return covered
