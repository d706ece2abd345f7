"""Thread-block clusters: blocks that run at the same time and access each other's shared memory.

The simulator runs one block after another, so it cannot run a cluster. The functions here raise an
error there, and kernels call them only if a cluster has more than one block.

The barriers do not assume that the threads of a warp arrive together: the compiler may copy the
call of one into both branches of a condition, and the ".aligned" form would then be undefined.

Source: CUDA C++ programming guide, thread block clusters; PTX ISA, barrier.cluster and mapa.
"""

from typing import Any

from gspn2bench.kernels.jit import SIMULATED


def _instruction(kinds: str, text: str, constraints: str) -> Any:
    """A function for kernels that is a piece of PTX with side effects.

    Args:
        kinds: types of the result and of the arguments: "u" for uint32, "f" for float32, "v" for
            none.
        text: the PTX.
        constraints: of its operands, as LLVM writes them.
    """
    if SIMULATED:

        def absent(*_: Any) -> Any:
            raise NotImplementedError("the simulator has no clusters")

        return absent

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

    def none(_: Any) -> Any:
        return signature, lower

    def two(_: Any, _first: Any, _second: Any) -> Any:
        return signature, lower

    return intrinsic({0: none, 2: two}[len(arguments)])


cluster_arrive = _instruction("v", "barrier.cluster.arrive.release;", "~{memory}")
"""Announce that this thread's writes to shared memory, local and remote, are done."""
cluster_wait = _instruction("v", "barrier.cluster.wait.acquire;", "~{memory}")
"""Wait until every thread of the cluster has arrived. Their writes are then visible."""
remote_address = _instruction("uuu", "mapa.shared::cluster.u32 $0, $1, $2;", "=r,r,r")
"""(address, rank) -> the address of the same place in the shared memory of another block."""
store_remote = _instruction("vuf", "st.shared::cluster.f32 [$0], $1;", "r,f,~{memory}")
"""(address, value): write to the shared memory of a block of the cluster."""


def _shared_address() -> Any:
    if SIMULATED:

        def absent(_: Any) -> Any:
            raise NotImplementedError("the simulator has no clusters")

        return absent

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
"""(array) -> the 32-bit address of a shared array's first element."""
