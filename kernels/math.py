"""The arithmetic of the scan, used by every rung; the way through memory is each rung's own.

Source: arXiv 2501.12381, equations 1 to 3. Operands are float32 scalars in registers.
"""

from gspn2bench.kernels.jit import device_function


@device_function
def recurrence(
    wl: float, left: float, wm: float, middle: float, wr: float, right: float, lam: float, x: float
) -> float:
    """One element of h: the three neighbours on the line before, weighted, plus the input.

    The terms that need no neighbour of another thread come first, so that they are ready while
    ``left`` and ``right`` are on their way.
    """
    return lam * x + wm * middle + wl * left + wr * right
