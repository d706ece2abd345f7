"""The current device of torch and numba."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def device_of(tensor: Tensor) -> Iterator[None]:
    """Make the tensor's GPU the current one, for torch and numba."""
    if tensor.device.type != "cuda":  # the simulator in tests
        yield
        return
    from gspn2bench.kernels.jit import SIMULATED

    if SIMULATED:
        raise ValueError(
            f"x: on {tensor.device}, expected cpu: with NUMBA_ENABLE_CUDASIM=1 kernels are "
            "simulated; unset it to run on a GPU"
        )
    with torch.cuda.device(tensor.device):
        yield
