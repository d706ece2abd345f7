"""Global-memory traffic of a call, sector by sector, from the simulator.

The simulator runs a kernel thread by thread in Python. Here each array that a kernel is given
tells a recorder of every access: which thread, where in the program, which address, how many
bytes. A request is what a warp asks of memory at once: the accesses of its lanes that are

- of one launch, one block and one warp,
- at one site: one instruction of the kernel, or of a device function in one chain of calls,
- in the same turn of every ``for`` loop over ``range`` around it, and
- the site's same execution by that lane in that turn.

So lanes that take another path or another number of turns have no part in a request, and fall
in step again after it, as the lanes of a warp do. Loads and stores are requests of their own. A
``while`` loop has no turns to tell apart: there the n-th execution of a site stands for the turn.

A request costs the different sectors of 32 bytes that its lanes touch. Addresses are the real ones
of the host: an allocation of torch begins on a multiple of 64 bytes on the CPU, of 512 on a GPU, so
that sectors fall alike. Nothing depends on the order in which the simulator's threads ran.
"""

import dis
import inspect
import operator
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from types import CodeType
from typing import Any, Final

import numpy as np
import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call

SECTOR_BYTES: Final = 32
SCRATCH: Final = "scratch"
"""The operand that accesses outside every named tensor count for."""

_Word = tuple[int, int]
"""An address and the bytes that lie there."""
_Access = tuple[object, int, int]
"""The request that it belongs to, the address, the bytes."""


@dataclass(frozen=True)
class Traffic:
    """What the warps asked of global memory.

    Args:
        load_requests: loads of a warp.
        load_sectors: sectors of 32 bytes, different ones in each load, summed over the loads.
        store_requests: stores of a warp.
        store_sectors: as ``load_sectors``.
        read_bytes: different bytes read.
        written_bytes: different bytes written.
        touched_bytes: different bytes read or written.
        reread_bytes: bytes that a load asked for after another one had; lanes of one load that
            read the same byte read it once.
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
        """Bytes of every sector of every request."""
        return SECTOR_BYTES * (self.load_sectors + self.store_sectors)

    @property
    def sectors_per_load(self) -> float | None:
        """Mean sectors of a load: 4 where 32 lanes read adjacent float32, 32 at the worst."""
        return self.load_sectors / self.load_requests if self.load_requests else None

    @property
    def sectors_per_store(self) -> float | None:
        """Mean sectors of a store."""
        return self.store_sectors / self.store_requests if self.store_requests else None


@dataclass(frozen=True)
class Trace:
    """The traffic of one call.

    Args:
        launches: kernel launches it made.
        total: of all arrays.
        operands: of each named tensor and of "scratch", those that were touched. Sectors and bytes
            add up to the total; so do requests, unless lanes of one reach for several tensors.
    """

    launches: int
    total: Traffic
    operands: dict[str, Traffic]


def trace(call: Call, tensors: Mapping[str, torch.Tensor]) -> Trace:
    """Run a call in the simulator and record its traffic.

    Args:
        call: launches made by ``jit.bound``.
        tensors: contiguous CPU tensors by the name under which their traffic is told apart.

    Raises:
        RuntimeError: kernels run on a GPU, where nothing can be traced.
    """
    if not jit.SIMULATED:
        raise RuntimeError("trace: kernels run on a GPU; only the simulator can be traced")
    recorder = _Recorder(tensors)
    with jit.observing(recorder.observe):
        call()
    return recorder.result()


class _Thread(threading.local):
    """The CUDA thread that asks; each launch has threads of its own."""

    def __init__(self) -> None:
        thread = threading.current_thread()
        block = getattr(thread, "blockIdx", ())  # the host's thread, which makes this, has none
        self.warp = (*block, getattr(thread, "thread_id", 0) // jit.WARP)
        self.turns: list[int] = []  # of the loops it is in, the outermost first
        self.executions: Counter[object] = Counter()


class _Recorder:
    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._spans = {
            name: range(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)
            for name, tensor in tensors.items()
        }
        self._loads: dict[str, list[_Access]] = defaultdict(list)
        self._stores: dict[str, list[_Access]] = defaultdict(list)
        self._starts: dict[int, tuple[CodeType, list[int]]] = {}
        self._thread = _Thread()
        self._launches = 0
        self._kernel: CodeType | None = None

    @contextmanager
    def observe(self, kernel: Any, arguments: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """An observer of ``jit``: the launch gets arrays that tell of their accesses."""
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
        """An array in the place of one of NumPy's, which it reads and writes."""
        start = array.__array_interface__["data"][0]
        name = next((name for name, span in self._spans.items() if start in span), SCRATCH)
        return _Array(array, start, self, self._loads[name], self._stores[name])

    def record(self, accesses: list[_Access], address: int, size: int) -> None:
        """Note an access that the caller's caller makes."""
        thread = self._thread
        site = (self._site(), tuple(thread.turns))
        execution = thread.executions[site]
        thread.executions[site] = execution + 1
        accesses.append(((self._launches, thread.warp, site, execution), address, size))

    def result(self) -> Trace:
        """What was recorded, summed up."""
        names = [*self._spans, SCRATCH]
        operands = {
            name: _traffic(self._loads[name], self._stores[name])
            for name in names
            if self._loads[name] or self._stores[name]
        }
        loads, stores = (list(chain(*kind.values())) for kind in (self._loads, self._stores))
        return Trace(self._launches, _traffic(loads, stores), operands)

    def _site(self) -> tuple[int, ...]:
        """The instructions that are being executed, from the access out to the kernel."""
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
        """``range`` for a kernel, noting which turn of the loop the thread is in."""
        turns = self._thread.turns
        depth = len(turns)
        turns.append(0)
        try:
            for turns[depth], value in enumerate(range(*bounds)):
                yield value
        finally:
            del turns[depth:]


class _Array:
    """Looks like a device array to a kernel, as far as kernels use one."""

    def __init__(
        self,
        array: "np.ndarray[Any, Any]",
        start: int,
        recorder: _Recorder,
        loads: list[_Access],
        stores: list[_Access],
    ) -> None:
        self._array, self._start, self._recorder = array, start, recorder
        self._loads, self._stores = loads, stores
        self.shape, self.ndim, self.size = array.shape, array.ndim, array.size
        self.dtype, self.itemsize = array.dtype, array.itemsize

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Any:
        value = self._array[index]
        if isinstance(value, np.ndarray):
            return self._recorder.watch(value)
        self._recorder.record(self._loads, self._address(index), self.itemsize)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        address = self._address(index)
        self._array[index] = value
        self._recorder.record(self._stores, address, self.itemsize)

    def _address(self, index: Any) -> int:
        """Where an element lies; an index below 0 counts from the end, as it does on a GPU."""
        address = self._start
        indices = index if isinstance(index, tuple) else (index,)
        for i, extent, stride in zip(
            map(operator.index, indices), self._array.shape, self._array.strides, strict=True
        ):
            address += (i if i >= 0 else i + extent) * stride
        return address


def _modules(function: Any) -> list[dict[str, Any]]:
    """The globals of a kernel and of the device functions that it calls, each once."""
    found: dict[int, dict[str, Any]] = {}
    functions, seen = [function], {function}
    while functions:
        one = functions.pop()
        found[id(one.__globals__)] = one.__globals__
        names = inspect.getclosurevars(one)
        for value in chain(names.globals.values(), names.nonlocals.values()):
            inner = getattr(value, "py_func", None)
            if inner is not None and inner not in seen:
                seen.add(inner)
                functions.append(inner)
    return list(found.values())


def _instruction_starts(code: CodeType) -> list[int]:
    """The offset of the instruction that each word of the bytecode belongs to.

    Once the interpreter has specialised an instruction, a frame may point behind its caches.
    """
    starts = [0] * (len(code.co_code) // 2)
    for instruction in dis.get_instructions(code):
        starts[instruction.offset // 2] = instruction.offset
    return list(accumulate(starts, max))


def _traffic(loads: Iterable[_Access], stores: Iterable[_Access]) -> Traffic:
    load_requests, store_requests = _requests(loads), _requests(stores)
    read, written = set(chain(*load_requests)), set(chain(*store_requests))
    read_bytes = _different_bytes(read)
    asked_bytes = sum(size for words in load_requests for _, size in words)
    return Traffic(
        load_requests=len(load_requests),
        load_sectors=sum(map(_sectors, load_requests)),
        store_requests=len(store_requests),
        store_sectors=sum(map(_sectors, store_requests)),
        read_bytes=read_bytes,
        written_bytes=_different_bytes(written),
        touched_bytes=_different_bytes(read | written),
        reread_bytes=asked_bytes - read_bytes,
    )


def _requests(accesses: Iterable[_Access]) -> list[set[_Word]]:
    """The different words of each request."""
    requests: dict[object, set[_Word]] = defaultdict(set)
    for request, address, size in accesses:
        requests[request].add((address, size))
    return list(requests.values())


def _sectors(words: Iterable[_Word]) -> int:
    return len(
        {end // SECTOR_BYTES for address, size in words for end in (address, address + size - 1)}
    )


def _different_bytes(words: Iterable[_Word]) -> int:
    """Bytes under words that may be of several sizes, and so overlap."""
    covered, end = 0, 0
    for address, size in sorted(words):
        covered += max(0, address + size - max(end, address))
        end = max(end, address + size)
    return covered
