"""How values lie in memory; kernels compute in float32 whatever the storage type.

bfloat16 has no NumPy type, so that its arrays travel as their 16 bits: the upper half of a
float32.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gspn2bench.kernels.jit import Array, device_function


@dataclass(frozen=True)
class Storage:
    """One storage type.

    Args:
        raw: NumPy type of a value as it lies in memory, for arrays in registers.
        widen: device function, raw -> float32.
        narrow: device function, float32 -> raw, to the nearest, ties to even.
    """

    raw: Any
    widen: Any
    narrow: Any


@cache
def storage_of(dtype: str) -> Storage:
    """The storage of "float32", "float16" or "bfloat16"."""
    return {"float32": _float32, "float16": _float16, "bfloat16": _bfloat16}[dtype]()


@cache
def storage(dtype: str) -> tuple[Any, Any]:
    """Device functions ``load(array, at) -> float32`` and ``store(array, at, float32)``.

    Args:
        dtype: "float32", "float16" or "bfloat16".
    """
    kind = storage_of(dtype)
    widen, narrow = kind.widen, kind.narrow

    @device_function
    def load(array: Array, at: int) -> Any:
        return widen(array[at])

    @device_function
    def store(array: Array, at: int, value: float) -> None:
        array[at] = narrow(value)

    return load, store


def _float32() -> Storage:
    @device_function
    def same(value: Any) -> Any:
        return value

    return Storage(np.float32, same, same)


def _float16() -> Storage:
    @device_function
    def widen(raw: Any) -> Any:
        return np.float32(raw)

    @device_function
    def narrow(value: Any) -> Any:
        return np.float16(value)

    return Storage(np.float16, widen, narrow)


def _bfloat16() -> Storage:
    @device_function
    def widen(raw: Any) -> Any:
        return np.uint32(np.uint32(raw) << np.uint32(16)).view(np.float32)

    @device_function
    def narrow(value: Any) -> Any:
        bits = np.float32(value).view(np.uint32)
        odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(bits + np.uint32(np.uint32(0x7FFF) + odd))
        return np.uint16(rounded >> np.uint32(16))

    return Storage(np.uint16, widen, narrow)
