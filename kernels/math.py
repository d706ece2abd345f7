"""The arithmetic of the scan, used by every rung; the way through memory is each rung's own.

Source: arXiv 2501.12381, equations 1 to 3, and the adjoint that follows from them. Operands are
float32 scalars in registers. Terms that need no other thread come first, so that they are ready
while a neighbour's are on their way.
"""

from gspn2bench.kernels.jit import device_function


@device_function
def recurrence(
    wl: float, left: float, wm: float, middle: float, wr: float, right: float, lam: float, x: float
) -> float:
    """h[i, p] from the line before: its neighbours at p - 1, p, p + 1, weighted, plus the input.

    Args:
        wl: weight of the left neighbour, at (i, p).
        left: h[i-1, p-1], 0 outside the line and before the first line.
        wm: weight of the middle neighbour, at (i, p).
        middle: h[i-1, p].
        wr: weight of the right neighbour, at (i, p).
        right: h[i-1, p+1], 0 like ``left``.
        lam: input scale at (i, p).
        x: input at (i, p).
    """
    return lam * x + wm * middle + wl * left + wr * right


@device_function
def adjoint(
    grad_h: float, wm: float, middle: float, wl: float, right: float, wr: float, left: float
) -> float:
    """g[i, p], the whole gradient of h[i, p]: what came in, plus what the next line gives back.

    h[i, p] was the middle of (i+1, p), the left neighbour of (i+1, p+1) and the right neighbour of
    (i+1, p-1), and so gathers wm, wl and wr from there.

    Args:
        grad_h: incoming gradient at (i, p).
        wm: weight at (i+1, p).
        middle: g[i+1, p].
        wl: weight at (i+1, p+1).
        right: g[i+1, p+1], 0 outside the line and after the last line.
        wr: weight at (i+1, p-1).
        left: g[i+1, p-1], likewise.
    """
    return grad_h + wm * middle + wl * right + wr * left


@device_function
def gather(grad_h: float, middle: float, right: float, left: float) -> float:
    """g[i, p] as ``adjoint`` has it, from products that the threads of the next line made.

    Args:
        grad_h: incoming gradient at (i, p).
        middle: wm g at (i+1, p).
        right: wl g at (i+1, p+1).
        left: wr g at (i+1, p-1).
    """
    return grad_h + middle + right + left
