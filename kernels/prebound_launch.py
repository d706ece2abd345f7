"""A launch on a GPU that is prepared once and made with one call of the driver.

At each launch Numba finds the types of a kernel's arguments and lays them out in memory. This takes
about 40 us, and a call of 1024 launches would measure little else. Here both are done once. A
``PreparedLaunch`` still takes the addresses of its tensors at every call. A ``PreboundLaunch`` has
them too.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from cuda.bindings import driver
from cuda.core import LaunchConfig, Stream, launch
from numba import from_dtype
from numba.cuda import types

from gspn2bench.kernels.cluster import MAX_CLUSTER
from gspn2bench.kernels.jit import ArrayType, FlatArray


class PreboundLaunch:
    """One launch; only its stream is chosen when it is made.

    Args:
        compiled: a kernel, from ``kernel``; compiled here for the types of the arguments.
        grid: number of blocks.
        block: threads per block.
        arguments: arrays and whole numbers; the launch keeps the tensors of the arrays alive.
        shared_bytes: dynamic shared memory per block.
        cluster: blocks per cluster; a divisor of ``grid``.
    """

    def __init__(
        self,
        compiled: Any,
        grid: int,
        block: int | tuple[int, int],
        arguments: Sequence[FlatArray | int],
        shared_bytes: int,
        cluster: int = 1,
    ) -> None:
        dtypes = dtypes_of(arguments)
        self._device = torch.cuda.current_device()
        self._shape = _shape(grid, block, shared_bytes, cluster)
        self._kernel = _specialized(compiled, dtypes, shared_bytes, self._device, cluster).kernel
        self._arguments = arguments
        self._words = [word for argument in arguments for word in words_of(argument)]

    def __call__(self) -> None:
        """Launch on torch's current stream."""
        # torch.cuda.current_stream() would take longer than the rest of the launch
        handle = torch._C._cuda_getCurrentRawStream(self._device)
        launch(_stream(self._device, handle), self._shape, self._kernel, *self._words)


class PreparedLaunch:
    """One launch, prepared for tensors of given sizes; called with the tensors.

    It can be called from several threads and on several streams, because a call changes nothing
    here.

    Args:
        compiled: a kernel, from ``kernel``, whose arrays come before its numbers.
        grid: number of blocks.
        block: threads per block.
        arrays: type of each array.
        numbers: the whole numbers.
        shared_bytes: dynamic shared memory per block.
        cluster: blocks per cluster.
    """

    def __init__(
        self,
        compiled: Any,
        grid: int,
        block: int,
        arrays: Sequence[ArrayType],
        numbers: Sequence[int],
        shared_bytes: int,
        cluster: int,
    ) -> None:
        self._device = torch.cuda.current_device()
        self._shape = _shape(grid, block, shared_bytes, cluster)
        dtypes = (*(array.word for array in arrays), *(None for _ in numbers))
        self._kernel = _specialized(compiled, dtypes, shared_bytes, self._device, cluster).kernel
        self._arrays = [array_words(array.elements, array.word.itemsize, 0) for array in arrays]
        self._numbers = tuple(numbers)

    def __call__(self, *tensors: torch.Tensor) -> None:
        """Launch on torch's current stream."""
        words: list[int] = []
        for array, tensor in zip(self._arrays, tensors, strict=True):
            words += array
            words[-ADDRESS_FROM_END] = tensor.data_ptr()
        handle = torch._C._cuda_getCurrentRawStream(self._device)
        stream = _stream(self._device, handle)
        launch(stream, self._shape, self._kernel, *words, *self._numbers)


@cache
def _shape(
    grid: int, block: int | tuple[int, int], shared_bytes: int, cluster: int
) -> LaunchConfig:
    if cluster == 1:
        return LaunchConfig(grid=grid, block=block, shmem_size=shared_bytes)
    # with clusters, cuda.core takes the size of a grid in clusters
    clusters = grid // cluster
    return LaunchConfig(grid=clusters, cluster=cluster, block=block, shmem_size=shared_bytes)


@cache
def _specialized(
    compiled: Any,
    dtypes: tuple[torch.dtype | None, ...],
    shared_bytes: int,
    device: int,
    cluster: int = 1,
) -> Any:
    """A kernel compiled for the types of its arguments, and loaded on the current device.

    Args:
        compiled: a kernel, from ``kernel``.
        dtypes: word type of each array; None for a number.
        shared_bytes: dynamic shared memory per block.
        device: the current device.
        cluster: blocks per cluster.

    Raises:
        ValueError: the driver does not allow so much shared memory or so large a cluster.
    """
    function = compiled.compile(signature(dtypes))._codelibrary.get_cufunc()
    attributes = driver.CUfunction_attribute
    if shared_bytes:  # without it, static and dynamic memory together are limited to 48 KB
        attribute = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _allow(
            function,
            attribute,
            shared_bytes,
            device,
            f"shared memory: {shared_bytes} bytes per block",
        )
    if cluster > MAX_CLUSTER:
        attribute = attributes.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        _allow(function, attribute, 1, device, f"cluster: {cluster} blocks")
    return function


def resident_clusters(
    compiled: Any,
    dtypes: tuple[torch.dtype | None, ...],
    block: int,
    shared_bytes: int,
    cluster: int,
) -> int:
    """Clusters of a kernel that the current device holds at once, if nothing else runs.

    Args:
        compiled: a kernel, from ``kernel``; compiled here for the types of its arguments.
        dtypes: word type of each array; None for a number.
        block: threads per block.
        shared_bytes: dynamic shared memory per block.
        cluster: blocks per cluster.

    Raises:
        ValueError: the driver cannot tell the number.
    """
    device = torch.cuda.current_device()
    function = _specialized(compiled, dtypes, shared_bytes, device, cluster)
    size = driver.CUlaunchAttribute()
    size.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    dimension = size.value.clusterDim
    dimension.x, dimension.y, dimension.z = cluster, 1, 1
    shape = driver.CUlaunchConfig()
    shape.gridDimX, shape.gridDimY, shape.gridDimZ = cluster, 1, 1
    shape.blockDimX, shape.blockDimY, shape.blockDimZ = block, 1, 1
    shape.sharedMemBytes = shared_bytes
    shape.attrs, shape.numAttrs = [size], 1
    error, handle = driver.cuKernelGetFunction(function.handle)
    if error == driver.CUresult.CUDA_SUCCESS:
        error, clusters = driver.cuOccupancyMaxActiveClusters(handle, shape)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise ValueError(f"clusters: of {cluster} blocks of {block} threads: {error.name}")
    return int(clusters)


@cache
def _stream(device: int, handle: int) -> Any:  # noqa: ARG001
    """The stream as an object of cuda.core; the cache is safe, as torch never destroys streams."""
    return Stream.from_handle(handle)


def dtypes_of(arguments: Sequence[FlatArray | int]) -> tuple[torch.dtype | None, ...]:
    """Word type of each array; None for a number."""
    return tuple(a.dtype if isinstance(a, FlatArray) else None for a in arguments)


def signature(dtypes: Sequence[torch.dtype | None]) -> tuple[Any, ...]:
    """Numba's types of a kernel's arguments, from the word types of arrays; None for a number."""

    def array(dtype: torch.dtype) -> Any:
        word = from_dtype(np.dtype(str(dtype).removeprefix("torch.")))
        return types.Array(word, 1, "C")

    return tuple(types.int64 if dtype is None else array(dtype) for dtype in dtypes)


def words_of(argument: FlatArray | int) -> tuple[int, ...]:
    """The 8-byte words that represent an argument in Numba's kernels.

    A number takes one, an array those of ``array_words``.
    """
    if not isinstance(argument, FlatArray):
        return (argument,)
    tensor, item = argument.tensor, argument.dtype.itemsize
    elements = tensor.numel() * tensor.element_size() // item
    return array_words(elements, item, tensor.data_ptr())


def array_words(elements: int, item: int, address: int) -> tuple[int, ...]:
    """The words of an array: two unused pointers, elements, item bytes, address, shape, stride."""
    return (0, 0, elements, item, address, elements, item)


ADDRESS_FROM_END: Final = 3
"""Position of the address among the words of an array, counted from the end."""


def _allow(function: Any, attribute: Any, value: int, device: int, request: str) -> None:
    """Set an attribute of a kernel; an error names the request."""
    (error,) = driver.cuKernelSetAttribute(attribute, value, function.handle, device)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise ValueError(f"{request}: {error.name}")
