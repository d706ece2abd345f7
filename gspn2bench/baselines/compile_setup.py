"""torch.compile for sweeps: static shapes, whole graphs, and many graphs per process."""

from collections.abc import Callable
from typing import Any, Final

MAX_VARIANTS: Final = 1024
"""Most variants of one function that a process may compile; a sweep needs a few per case.

torch.compile raises an error beyond this limit, because ``fullgraph`` forbids the eager fallback.
"""


def compile_static(function: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """Compile a function or a module for static shapes; a graph break is an error.

    Args:
        function: a function or a module.
        backend: the torch.compile backend.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MAX_VARIANTS
    torch._dynamo.config.accumulated_recompile_limit = 4 * MAX_VARIANTS
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
