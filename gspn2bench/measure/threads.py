"""The thread that launches the kernels of a backward.

autograd runs backward on a thread per device. Nsight Compute filters kernels by push-pop ranges,
which belong to one thread, and would miss those kernels.
"""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from gspn2bench.system import executables


def backward_here() -> AbstractContextManager[object]:
    """Run the backward of the body on the calling thread."""
    return torch.autograd.set_multithreading_enabled(False)


def backward_in_range() -> AbstractContextManager[object]:
    """``backward_here`` under Nsight Compute; otherwise, the body runs as users run it."""
    profiler = os.environ.get(executables.PROFILED)
    return backward_here() if profiler == "ncu" else nullcontext()
