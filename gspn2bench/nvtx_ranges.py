"""NVTX ranges around the parts of a sweep, in the domain "gspn2bench".

The names are registered strings. Nsight Systems can therefore start at ``measure@gspn2bench``, and
Nsight Compute can filter on ``gspn2bench@measure/``. Without a profiler, a range costs almost
nothing.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Literal, get_args

import nvtx

DOMAIN: Final = "gspn2bench"
RangeName = Literal["scenario", "case", "gate", "warmup", "measure"]
RANGE_NAMES: Final = get_args(RangeName)
RECORDED: Final = "gspn2bench: ranges are recorded"
SILENT: Final = "gspn2bench: ranges are not recorded"
INJECTION: Final = "NVTX_INJECTION64_PATH"
"""Environment variable by which a profiler attaches itself to NVTX."""


def domain_state() -> str:
    """``RECORDED``, or ``SILENT`` if the ranges of this process reach no profiler."""
    kind = type(nvtx.get_domain(DOMAIN)).__name__
    return SILENT if kind == "DummyDomain" else RECORDED


def profiler_records_nothing() -> bool:
    """Whether a profiler is attached to this process and still records no range."""
    return bool(os.environ.get(INJECTION)) and domain_state() == SILENT


@contextmanager
def annotate(name: RangeName, *details: str) -> Iterator[None]:
    """Mark the body as one part of a sweep on a profiler's timeline.

    Args:
        name: full name of the range, which profilers match.
        details: words such as the case's label and the rung; they name a second range inside.

    Raises:
        ValueError: ``name`` is not one of ``RANGE_NAMES``.
    """
    if name not in RANGE_NAMES:
        raise ValueError(f"range: {name!r} is not one of {', '.join(RANGE_NAMES)}")
    with ExitStack() as stack:
        stack.enter_context(nvtx.annotate(name, domain=DOMAIN))
        if details:
            stack.enter_context(nvtx.annotate(" ".join(details), domain=DOMAIN))
        yield
