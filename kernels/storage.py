"""Storage types. Kernels compute in float32, whatever type the tensors store.

NumPy has no bfloat16, so kernels take it as uint16: the upper half of a float32. Kernels that load
several values at once take them as unsigned words of 4 or 8 bytes, with the first value in the
lowest bits. Two 16-bit values are unpacked, or rounded and joined, by one instruction each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels.jit import Array, device_function, instruction


@dataclass(frozen=True)
class Storage:
    """One storage type.

    Args:
        raw: NumPy type of a stored value.
        widen: device function, raw -> float32.
        narrow: device function, float32 -> raw, rounded to nearest, ties to even.
        unpack: device function, (uint32, i) -> float32: value i of a 4-byte word.
        join: device function, (float32, float32) -> uint32: the inverse. With float32, a word is
            the first value and the second is ignored.
    """

    raw: Any
    widen: Any
    narrow: Any
    unpack: Any
    join: Any


@cache
def storage_of(dtype: str) -> Storage:
    """The storage type of this name: "float32", "float16" or "bfloat16"."""
    return {"float32": _float32, "float16": _float16, "bfloat16": _bfloat16}[dtype]()


@cache
def storage(dtype: str) -> tuple[Any, Any]:
    """Device functions ``load(array, index) -> float32`` and ``store(array, index, float32)``.

    Args:
        dtype: "float32", "float16" or "bfloat16".
    """
    kind = storage_of(dtype)
    widen, narrow = kind.widen, kind.narrow

    @device_function
    def load(array: Array, index: int) -> Any:
        return widen(array[index])

    @device_function
    def store(array: Array, index: int, value: float) -> None:
        array[index] = narrow(value)

    return load, store


@cache
def words(dtype: str, pack: int) -> tuple[Any, Any]:
    """Device functions ``unpack(word, i) -> float32`` and ``join(values, first) -> word``.

    Args:
        dtype: storage type.
        pack: values per word; ``join`` reads as many from an array of float32.
    """
    kind = storage_of(dtype)
    widen, narrow, unpack_piece, join_piece = kind.widen, kind.narrow, kind.unpack, kind.join
    each = 4 // np.dtype(kind.raw).itemsize  # values per 4 bytes

    @device_function
    def unpack_one(word: Any, _i: int) -> Any:
        return widen(word)

    @device_function
    def join_one(values: Array, first: int) -> Any:
        return narrow(values[first])

    @device_function
    def join_four_bytes(values: Array, first: int) -> Any:
        return join_piece(values[first], values[first + each - 1])

    @device_function
    def unpack_eight_bytes(word: int, i: int) -> Any:
        return unpack_piece(np.uint32(word >> np.uint64(32 * (i // each))), i % each)

    @device_function
    def join_eight_bytes(values: Array, first: int) -> Any:
        low = np.uint64(join_four_bytes(values, first))
        high = np.uint64(join_four_bytes(values, first + each))
        return np.uint64(low | np.uint64(high << np.uint64(32)))

    if pack == 1:
        return unpack_one, join_one
    if pack == each:
        return unpack_piece, join_four_bytes
    return unpack_eight_bytes, join_eight_bytes


def word_type(dtype: str, pack: int) -> Any:
    """NumPy type of a word of several values, or of a stored value if ``pack`` is 1."""
    raw = storage_of(dtype).raw
    return raw if pack == 1 else {4: np.uint32, 8: np.uint64}[pack * np.dtype(raw).itemsize]


def _float32() -> Storage:
    @device_function
    def same(value: Any) -> Any:
        return value

    @device_function
    def unpack(piece: int, _i: int) -> Any:
        return np.uint32(piece).view(np.float32)

    @device_function
    def join(first: float, _second: float) -> Any:
        return np.float32(first).view(np.uint32)

    return Storage(np.float32, same, same, unpack, join)


def _float16() -> Storage:
    @device_function
    def widen(raw: Any) -> Any:
        return np.float32(raw)

    @device_function
    def narrow(value: Any) -> Any:
        return np.float16(value)

    def convert(ir: Any, builder: Any, piece: Any) -> Any:
        bits = builder.trunc(piece, ir.IntType(16))
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())

    low_half = instruction("fu", convert)(_low_half)

    @device_function
    def unpack(piece: int, i: int) -> Any:
        return low_half(np.uint32(piece >> np.uint32(16 * i)))

    return Storage(np.float16, widen, narrow, unpack, _pair("f16", _join_halves))


def _bfloat16() -> Storage:
    @device_function
    def widen(raw: Any) -> Any:
        return np.uint32(np.uint32(raw) << np.uint32(16)).view(np.float32)

    @device_function
    def unpack(piece: int, i: int) -> Any:
        high = np.uint32(piece << np.uint32(16)) if i == 0 else np.uint32(piece & HIGH)
        return high.view(np.float32)

    join = _pair("bf16", lambda low, high: _rounded(low) >> 16 | _rounded(high) & HIGH)

    @device_function
    def narrow(value: Any) -> Any:
        return np.uint16(join(value, value))

    return Storage(np.uint16, widen, narrow, unpack, join)


HIGH = np.uint32(0xFFFF0000)
"""Mask of the second 16-bit value in a 4-byte word."""


def _pair(name: str, simulated: Callable[[Any, Any], Any]) -> Any:
    """One PTX instruction: two float32 rounded to a 16-bit type, the first in the lower half."""

    def convert(ir: Any, builder: Any, low: Any, high: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.FloatType(), ir.FloatType()])
        assembly = ir.InlineAsm(kind, f"cvt.rn.{name}x2.f32 $0, $2, $1;", "=r,f,f")
        return builder.call(assembly, [low, high])

    return instruction("uff", convert)(simulated)


# The simulator's fallbacks for these instructions.


def _low_half(piece: int) -> Any:
    return np.float32(np.uint16(piece & 0xFFFF).view(np.float16))


def _join_halves(low: float, high: float) -> Any:
    first, second = (np.float16(value).view(np.uint16) for value in (low, high))
    return np.uint32(first) | np.uint32(second) << np.uint32(16)


def _rounded(value: float) -> Any:
    """The bits of a float32 after rounding: the upper 16 are the nearest bfloat16."""
    bits = np.float32(value).view(np.uint32)
    if np.isnan(value):
        return bits | np.uint32(0x400000)
    odd = bits >> np.uint32(16) & np.uint32(1)
    return np.uint32(bits + np.uint32(0x7FFF) + odd)
