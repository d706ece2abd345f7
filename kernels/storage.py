"""How values lie in memory; kernels compute in float32 whatever the storage type.

bfloat16 has no NumPy type, so that its arrays travel as their 16 bits: the upper half of a
float32.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from gspn2bench.kernels.jit import Array, device_function

Load = Callable[[Array, int], float]
Store = Callable[[Array, int, float], None]


@cache
def storage(dtype: str) -> tuple[Any, Any]:
    """Device functions ``load(array, at) -> float32`` and ``store(array, at, float32)``.

    Args:
        dtype: "float32", "float16" or "bfloat16".
    """
    return {"float32": _float32, "float16": _float16, "bfloat16": _bfloat16}[dtype]()


def _float32() -> tuple[Any, Any]:
    @device_function
    def load(array: Array, at: int) -> float:
        return array[at]  # type: ignore[no-any-return]

    @device_function
    def store(array: Array, at: int, value: float) -> None:
        array[at] = value

    return load, store


def _float16() -> tuple[Any, Any]:
    @device_function
    def load(array: Array, at: int) -> Any:
        return np.float32(array[at])

    @device_function
    def store(array: Array, at: int, value: float) -> None:
        array[at] = np.float16(value)

    return load, store


def _bfloat16() -> tuple[Any, Any]:
    @device_function
    def load(array: Array, at: int) -> Any:
        return np.uint32(np.uint32(array[at]) << np.uint32(16)).view(np.float32)

    @device_function
    def store(array: Array, at: int, value: Any) -> None:
        bits = np.float32(value).view(np.uint32)
        # to the nearest, ties to even
        odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
        array[at] = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return load, store
