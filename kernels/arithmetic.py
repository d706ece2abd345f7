"""The arithmetic of the scan, shared by all rungs. Each rung writes its own path through memory.

Operands are float32 scalars in registers. Terms that need no other thread come first: they are
ready while those of a neighbour are still being read.

Source: arXiv 2501.12381, equations 1 to 3, and the adjoint that follows from them.
"""

from typing import Any, Final

import numpy as np

from gspn2bench.kernels.jit import device_function, instruction


@device_function
def recurrence(
    wl: float, left: float, wm: float, middle: float, wr: float, right: float, lam: float, x: float
) -> float:
    """h[i, p]: the weighted neighbours p - 1, p and p + 1 of the previous line, plus the input.

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


LOG2_E: Final = np.float32(1.4426950408889634)
STEEP: Final = np.float32(-20)
"""Logit below which the sigmoid equals e^logit in float32."""
MOST: Final = np.float32(60)
"""Largest exponent of two used: the product of two such powers is still finite in float32."""


@device_function
def normalized(left: float, middle: float, right: float, has_left: bool, has_right: bool) -> Any:
    """The weights of three logits: their sigmoids over the sum of those inside the line.

    With d_k = 1 + e^-a_k the sigmoid is 1 / d_k, so the first weight is d_1 d_2 over
    d_1 d_2 + d_0 d_2 + d_0 d_1: one division for all three. If every logit is below STEEP, the 1 is
    left out and e^-a_k is taken relative to the largest logit. Then nothing overflows, and three
    very negative logits do not give 0 / 0. The error of a weight below 2**-30 is at most 2**-30.

    Args:
        left: logit of the left neighbour.
        middle: logit of the middle neighbour, which is always inside the line.
        right: logit of the right neighbour.
        has_left: whether the left neighbour is inside the line; if not, its weight is 0.
        has_right: whether the right neighbour is inside the line.

    Returns:
        wl, wm and wr.
    """
    wl, wm, wr, _ = normalized_with_sum(left, middle, right, has_left, has_right)
    return wl, wm, wr


@device_function
def normalized_with_sum(
    left: float, middle: float, right: float, has_left: bool, has_right: bool
) -> Any:
    """As ``normalized``, and the sum of the sigmoids inside the line, for ``logit_gradients``.

    The sum is 0 if every logit is below STEEP: its sigmoids are then below 2**-28.
    """
    left = left if has_left else middle
    right = right if has_right else middle
    beside = max(left, right)
    largest = max(beside, middle)
    steep = largest < STEEP
    one = np.float32(0) if steep else np.float32(1)
    shift = largest if steep else np.float32(0)
    d_left = one + _power(min((shift - left) * LOG2_E, MOST))
    d_middle = one + _power(min((shift - middle) * LOG2_E, MOST))
    d_right = one + _power(min((shift - right) * LOG2_E, MOST))
    wl = d_middle * d_right if has_left else np.float32(0)
    wm = d_left * d_right
    wr = d_left * d_middle if has_right else np.float32(0)
    total = wl + wm + wr
    share = _reciprocal(total)
    # three factors of up to 2**60 would overflow
    sigmoids = total * _reciprocal(d_left) * _reciprocal(d_middle * d_right)
    return wl * share, wm * share, wr * share, np.float32(0) if steep else sigmoids


@device_function
def logit_gradients(
    grad_wl: float, grad_wm: float, grad_wr: float, wl: float, wm: float, wr: float, sigmoids: float
) -> Any:
    """The gradients of three logits, from those of their weights.

    A weight is w_k = s_k / S, where s_k is the sigmoid of its logit and S their sum. So its logit
    has the gradient (grad_k - sum_j grad_j w_j) w_k (1 - s_k), with s_k = w_k S.

    Args:
        grad_wl: gradient of the left weight.
        grad_wm: gradient of the middle weight.
        grad_wr: gradient of the right weight.
        wl: left weight; 0 if the neighbour is outside the line. Its gradient is then 0.
        wm: middle weight.
        wr: right weight, as ``wl``.
        sigmoids: S, from ``normalized_with_sum``.
    """
    mean = grad_wl * wl + grad_wm * wm + grad_wr * wr
    left = (grad_wl - mean) * wl * (np.float32(1) - wl * sigmoids)
    middle = (grad_wm - mean) * wm * (np.float32(1) - wm * sigmoids)
    right = (grad_wr - mean) * wr * (np.float32(1) - wr * sigmoids)
    return left, middle, right


def _approximate(name: str) -> Any:
    """LLVM code for an approximate PTX instruction on one float32, which flushes denormals to 0."""

    def generate(ir: Any, builder: Any, value: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
        assembly = ir.InlineAsm(kind, f"{name}.approx.ftz.f32 $0, $1;", "=f,f")
        return builder.call(assembly, [value])

    return generate


@instruction("ff", _approximate("ex2"))
def _power(exponent: float) -> Any:
    """2**exponent, with a relative error of at most 2**-22."""
    return np.exp2(np.float32(exponent))


@instruction("ff", _approximate("rcp"))
def _reciprocal(value: float) -> Any:
    """1 / value, with a relative error of at most 2**-23."""
    return np.float32(1) / value


@device_function
def adjoint(
    grad_h: float, wm: float, middle: float, wl: float, right: float, wr: float, left: float
) -> float:
    """g[i, p], the whole gradient of h[i, p]: the incoming one, plus the next line's share.

    h[i, p] is the middle neighbour of (i+1, p), the left one of (i+1, p+1) and the right one of
    (i+1, p-1), so their wm, wl and wr weight their gradients.

    Args:
        grad_h: incoming gradient at (i, p).
        wm: weight at (i+1, p).
        middle: g[i+1, p].
        wl: weight at (i+1, p+1).
        right: g[i+1, p+1], 0 outside the line and after the last line.
        wr: weight at (i+1, p-1).
        left: g[i+1, p-1], 0 like ``right``.
    """
    return grad_h + wm * middle + wl * right + wr * left


@device_function
def move(index: int, distance: int) -> Any:
    """A flat index moved by a signed distance; unsigned again, as r01 explains."""
    return np.uint64(np.int64(index) + distance)


@device_function
def gather(grad_h: float, middle: float, right: float, left: float) -> float:
    """g[i, p] as in ``adjoint``, from products that were computed with the next line.

    Args:
        grad_h: incoming gradient at (i, p).
        middle: wm g at (i+1, p).
        right: wl g at (i+1, p+1).
        left: wr g at (i+1, p-1).
    """
    return grad_h + middle + right + left
