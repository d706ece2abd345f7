"""The CUDA driver, called through ctypes, which works before numba or torch is imported.

Nothing here creates a CUDA context.
"""

import ctypes
from typing import Final

LIBRARY: Final = "libcuda.so.1"
ATTRIBUTES: Final = {"multiprocessors": 16, "l2_bytes": 38}
"""Device attributes by their CUdevice_attribute number."""


class DriverError(RuntimeError):
    """The driver is missing or a call failed; the message says which."""


class Driver:
    """An initialised CUDA driver.

    Raises:
        DriverError: the library is missing, or cuInit failed.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DriverError(f"no NVIDIA driver: {LIBRARY} cannot be loaded") from error
        self._call("cuInit", ctypes.c_uint(0))

    def version(self) -> tuple[int, int]:
        """The newest CUDA version that the driver supports, (major, minor)."""
        number = self._integer("cuDriverGetVersion")
        return number // 1000, number % 1000 // 10

    def device_count(self) -> int:
        """GPUs that this process may use."""
        return self._integer("cuDeviceGetCount")

    def name(self, device: int) -> str:
        """The GPU's name."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, ctypes.c_int(256), ctypes.c_int(device))
        return text.value.decode()

    def bus_id(self, device: int) -> str:
        """The GPU's address on the PCI bus, by which NVML finds the same GPU."""
        text = ctypes.create_string_buffer(64)
        self._call("cuDeviceGetPCIBusId", text, ctypes.c_int(64), ctypes.c_int(device))
        return text.value.decode()

    def memory_bytes(self, device: int) -> int:
        """Bytes of the GPU's global memory."""
        size = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(size), ctypes.c_int(device))
        return size.value

    def attribute(self, device: int, name: str) -> int:
        """One of ``ATTRIBUTES``."""
        number = ctypes.c_int(ATTRIBUTES[name])
        return self._integer("cuDeviceGetAttribute", number, ctypes.c_int(device))

    def _integer(self, function: str, *arguments: object) -> int:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise DriverError(f"{function} failed with CUDA error {code}{self._explain(code)}")

    def _explain(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
        return f" ({text.value.decode()})" if text.value else ""


def cuda_extra() -> str:
    """The extra that installs numba-cuda for this driver: "cu13", "cu12", or "" if none fits."""
    try:
        major, _ = Driver().version()
    except DriverError:
        return ""
    # a driver also runs code that was built for an older CUDA
    return {12: "cu12"}.get(major, "cu13" if major >= 13 else "")
