"""torch.compile as sweeps use it: for static shapes, whole graphs, any number of them a process."""

from collections.abc import Callable
from typing import Any, Final

MOST_SHAPES: Final = 1024
"""Variants of one function that a process may compile: a sweep has a few for each case. Past the
limit it would be an error, for a graph that has to be whole."""


def compile_static(function: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """A function or a module under torch.compile; a graph break is an error.

    Args:
        function: what to compile.
        backend: of torch.compile.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = MOST_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 4 * MOST_SHAPES
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
