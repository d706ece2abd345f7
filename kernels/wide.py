"""Access to several adjacent values at once: loads from shared memory, stores, asynchronous copies.

Numba loads and stores one value at a time. These functions move 4, 8 or 16 bytes as one
instruction. Their index counts values of the array's type, and is a multiple of the number moved.

Source: PTX ISA, ld, st and cp.async.
"""

from functools import cache
from typing import Any, Final

import numpy as np

from gspn2bench.kernels.jit import SIMULATED, Array, device_function
from gspn2bench.kernels.storage import storage_of

COPIED_BYTES: Final = (16, 8, 4)
"""Sizes of an asynchronous copy."""


@cache
def load_pieces(count: int) -> Any:
    """The function ``(array, index) -> tuple`` that loads 1, 2 or 4 adjacent pieces of 4 bytes.

    The pieces are uint32.
    """
    if SIMULATED:

        def load(array: Array, index: int) -> Any:
            values = 4 // array.dtype.itemsize * count
            run = np.array([array[index + k] for k in range(values)], array.dtype)
            return tuple(run.view(np.uint32))

        return load

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    def typing(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
        signature = types.UniTuple(types.uint32, count)(array, types.uint64)

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], *values)
            vector = ir.VectorType(ir.IntType(32), count)
            loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4 * count)
            lanes = (ir.Constant(ir.IntType(32), k) for k in range(count))
            pieces = [builder.extract_element(loaded, lane) for lane in lanes]
            return context.make_tuple(builder, signature.return_type, pieces)

        return signature, lower

    return intrinsic(typing)


@cache
def store_pieces(count: int) -> Any:
    """The function ``(array, index, pieces)`` that stores 1, 2 or 4 adjacent pieces of 4 bytes."""
    if SIMULATED:

        def store(array: Array, index: int, pieces: Any) -> None:
            for k, value in enumerate(np.array(pieces, np.uint32).view(array.dtype)):
                array[index + k] = value

        return store

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    def typing(_: Any, array: Any, index: Any, pieces: Any) -> Any:  # noqa: ARG001
        signature = types.void(array, types.uint64, pieces)

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[0], *values[:2])
            kind = ir.VectorType(ir.IntType(32), count)
            vector: Any = ir.Constant(kind, ir.Undefined)
            for k in range(count):
                lane = ir.Constant(ir.IntType(32), k)
                piece = builder.extract_value(values[2], k)
                vector = builder.insert_element(vector, piece, lane)
            builder.store(vector, builder.bitcast(pointer, kind.as_pointer()), align=4 * count)
            return context.get_dummy_value()

        return signature, lower

    return intrinsic(typing)


@cache
def copy_async(bytes_: int, to_offset: int = 0, offset: int = 0) -> Any:
    """The function that copies from global to shared memory while the thread goes on.

    (target, to, source, index, inside): copy 4, 8 or 16 bytes; zeros if ``inside`` is false.

    Args:
        bytes_: 4, 8 or 16.
        to_offset: added to ``to``. As constants, the offsets are part of the instruction, and
            copies that differ in nothing else share the computation of their addresses.
        offset: added to ``index``.
    """
    if SIMULATED:

        def copy(target: Array, to: int, source: Array, index: int, inside: bool) -> None:
            to, index = int(to) + to_offset, int(index) + offset
            for k in range(bytes_ // target.dtype.itemsize):
                target[to + k] = source[index + k] if inside else 0

        return copy

    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    level = "cg" if bytes_ == 16 else "ca"  # L1 takes part only in smaller copies

    def typing(_: Any, target: Any, to: Any, source: Any, index: Any, inside: Any) -> Any:  # noqa: ARG001
        signature = types.void(target, types.uint64, source, types.uint64, types.boolean)

        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            word, args = ir.IntType(64), signature.args
            item = args[0].dtype.bitwidth // 8
            shared = builder.ptrtoint(_pointer(context, builder, args[0], *values[:2]), word)
            kind = ir.FunctionType(ir.IntType(32), [word])
            narrow = "{ .reg .u64 t; cvta.to.shared.u64 t, $1; cvt.u32.u64 $0, t; }"
            address = builder.call(ir.InlineAsm(kind, narrow, "=r,l"), [shared])
            pointer = builder.ptrtoint(_pointer(context, builder, args[2], *values[2:4]), word)
            sizes = (ir.Constant(ir.IntType(32), size) for size in (bytes_, 0))
            size = builder.select(values[4], *sizes)
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32), word, ir.IntType(32)])
            operands = f"[$0+{item * to_offset}], [$1+{item * offset}], {bytes_}, $2"
            text = f"cp.async.{level}.shared.global {operands};"
            copied = ir.InlineAsm(kind, text, "r,l,r,~{memory}", side_effect=True)
            builder.call(copied, [address, pointer, size])
            return context.get_dummy_value()

        return signature, lower

    return intrinsic(typing)


@cache
def copy_value(dtype: str, to_offset: int = 0, offset: int = 0) -> Any:
    """The same for one stored value of any type: a copy through a register."""
    narrow = storage_of(dtype).narrow

    @device_function
    def copy(target: Array, to: int, source: Array, index: int, inside: bool) -> None:
        place = np.uint64(np.int64(to) + to_offset)
        if inside:
            target[place] = source[np.uint64(np.int64(index) + offset)]
        else:
            target[place] = narrow(np.float32(0))

    return copy


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Address of an element of an array of one dimension."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])
