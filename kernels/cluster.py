"""Thread-block clusters: blocks that run at the same time and access each other's shared memory.

A cluster is up to 8 consecutive blocks of a grid. ``bind_launch`` takes its size. Numba's simulator
runs one block after another and cannot run a cluster. There the functions of this module raise an
error, so a kernel calls them only if its cluster has more than one block.

Two ways to synchronize:

- ``cluster_arrive`` and ``cluster_wait``, a barrier of all threads of the cluster. Stores before it
  are visible after it. Its fence also waits for the thread's accesses to global memory.
- ``store_remote_pair`` and ``store_remote_if`` store asynchronously. Each adds its bytes to an
  mbarrier of the receiving block, whose threads wait for a number of bytes. There is no fence.

The barriers do not assume that the threads of a warp arrive together: the compiler may copy the
call of one into both branches of a condition, and the ".aligned" form would then be undefined.

Source: CUDA C++ programming guide, thread block clusters; PTX ISA, barrier.cluster, mapa, st.async
and mbarrier.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch

from gspn2bench.kernels.jit import SIMULATED

MAX_CLUSTER: Final = 8
"""Blocks of a cluster that every GPU with clusters can run."""
MAX_SHARED_BYTES: Final = 227 * 1024
"""Shared memory of a block on a GPU with clusters."""


@cache
def clusters_available() -> bool:
    """Whether kernels can use clusters here; without a GPU, compiling for one is assumed."""
    if SIMULATED:
        return False
    return not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (9, 0)


def _instruction(kinds: str, text: str, constraints: str) -> Any:
    """Expose PTX with side effects as a function that kernels call.

    Args:
        kinds: types of the result and of the arguments: "u" for uint32, "f" for float32, "v" for no
            result.
        text: the PTX.
        constraints: of its operands, in LLVM's notation.
    """
    if SIMULATED:
        return _not_simulated

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    numba_types = {"u": types.uint32, "f": types.float32, "v": types.void}
    ir_types = {"u": ir.IntType(32), "f": ir.FloatType(), "v": ir.VoidType()}
    result, arguments = kinds[0], kinds[1:]
    signature = numba_types[result](*(numba_types[kind] for kind in arguments))
    kind = ir.FunctionType(ir_types[result], [ir_types[each] for each in arguments])

    def lower(context: Any, builder: Any, _: Any, values: Any) -> Any:
        value = builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), values)
        return context.get_dummy_value() if result == "v" else value

    return intrinsic(_typing(len(arguments), lambda: (signature, lower)))


def _not_simulated(*_: Any) -> Any:
    raise NotImplementedError("the simulator has no clusters")


def _typing(count: int, answer: Callable[[], Any]) -> Any:
    """A typing function of this number of arguments; Numba reads the number from its signature."""
    functions: dict[int, Any] = {
        0: lambda _: answer(),
        1: lambda _, a: answer(),  # noqa: ARG005
        2: lambda _, a, b: answer(),  # noqa: ARG005
        3: lambda _, a, b, c: answer(),  # noqa: ARG005
        4: lambda _, a, b, c, d: answer(),  # noqa: ARG005
    }
    return functions[count]


cluster_arrive = _instruction("v", "barrier.cluster.arrive.release;", "~{memory}")
"""Arrive at the barrier. Threads that have waited see the stores of this thread before it."""
cluster_arrive_relaxed = _instruction("v", "barrier.cluster.arrive.relaxed;", "~{memory}")
"""Arrive at the barrier without a fence: no store before it is ordered."""
cluster_wait = _instruction("v", "barrier.cluster.wait.acquire;", "~{memory}")
"""Wait until every thread of the cluster has arrived at the barrier."""

remote_address = _instruction("uuu", "mapa.shared::cluster.u32 $0, $1, $2;", "=r,r,r")
"""(address, rank) -> address of the same location in the shared memory of block ``rank``."""
store_remote = _instruction("vuf", "st.shared::cluster.f32 [$0], $1;", "r,f,~{memory}")
"""(address, value): store to the shared memory of a block of the cluster."""

_ASYNC = "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes"
store_remote_pair = _instruction(
    "vuffu", f"{_ASYNC}.v2.f32 [$0], {{$1, $2}}, [$3];", "r,f,f,r,~{memory}"
)
"""(address, first, second, mbarrier): store two adjacent values, and add 8 bytes to the mbarrier.

``address`` is a multiple of 8, and in the same block as ``mbarrier``.
"""
store_remote_if = _instruction(
    "vufuu",
    f"{{ .reg .pred p; setp.ne.u32 p, $3, 0; @p {_ASYNC}.f32 [$0], $1, [$2]; }}",
    "r,f,r,r,~{memory}",
)
"""(address, value, mbarrier, condition): if ``condition`` is not 0, store, and add 4 bytes."""

mbarrier_init = _instruction(
    "vuu",
    "mbarrier.init.shared::cta.b64 [$0], $1; fence.mbarrier_init.release.cluster;",
    "r,r,~{memory}",
)
"""(address, count): initialize an mbarrier of this block for this number of arrivals per phase.

A barrier of the cluster must follow before a different block uses it.
"""
mbarrier_arrive = _instruction("vu", "mbarrier.arrive.shared::cta.b64 _, [$0];", "r,~{memory}")
"""(address): arrive at an mbarrier. Threads that wait for the phase see what came before."""
mbarrier_arrive_after_copies = _instruction(
    "vu", "cp.async.mbarrier.arrive.noinc.shared.b64 [$0];", "r,~{memory}"
)
"""(address): arrive at an mbarrier once this thread's asynchronous copies have been written."""
mbarrier_expect = _instruction(
    "vuu", "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r,~{memory}"
)
"""(address, bytes): arrive at an mbarrier; its phase ends when this many bytes have been stored."""
mbarrier_wait = _instruction(
    "vuu",
    "{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [$0], $1; @!p bra again; }",
    "r,r,~{memory}",
)
"""(address, parity): wait until the phase of this parity has ended; phases count from 0."""

mbarrier_poll_cluster = _instruction(
    "vuu",
    "{ .reg .pred p; again: "
    "mbarrier.test_wait.parity.acquire.cluster.shared::cta.b64 p, [$0], $1; @!p bra again; }",
    "r,r,~{memory}",
)
"""(address, parity): as ``mbarrier_wait``, for stores of other blocks, and without sleeping.

A thread that sleeps while it waits takes longer to go on.
"""


def _shared_address() -> Any:
    if SIMULATED:
        return _not_simulated

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    def shared_address(_: Any, array: Any) -> Any:
        signature = types.uint32(array)

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            pointer = builder.ptrtoint(data, ir.IntType(64))
            kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
            text = "{ .reg .u64 t; cvta.to.shared.u64 t, $1; cvt.u32.u64 $0, t; }"
            return builder.call(ir.InlineAsm(kind, text, "=r,l"), [pointer])

        return signature, lower

    return intrinsic(shared_address)


shared_address = _shared_address()
"""(array) -> 32-bit address of the first element of an array in shared memory."""
