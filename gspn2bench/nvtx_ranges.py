"""NVTX ranges around the parts of a sweep, in the domain "gspn2bench".

The names are registered strings, so that Nsight Systems can start on ``measure@gspn2bench`` and
Nsight Compute can filter on ``gspn2bench@measure/``. With no tool attached a range costs next to
nothing.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Literal, get_args

import nvtx

DOMAIN: Final = "gspn2bench"
RangeName = Literal["scenario", "case", "gate", "warmup", "measure"]
RANGE_NAMES: Final = get_args(RangeName)


@contextmanager
def annotate(name: RangeName, *details: str) -> Iterator[None]:
    """Mark the body as one part of a sweep on the profilers' time line.

    Args:
        name: the range's whole name, which profilers match.
        details: what it is about (the case's label, the rung); they name a range inside it.

    Raises:
        ValueError: ``name`` is none of ``RANGE_NAMES``.
    """
    if name not in RANGE_NAMES:
        raise ValueError(f"range: {name!r} is not one of {', '.join(RANGE_NAMES)}")
    with ExitStack() as stack:
        stack.enter_context(nvtx.annotate(name, domain=DOMAIN))
        if details:
            stack.enter_context(nvtx.annotate(" ".join(details), domain=DOMAIN))
        yield
