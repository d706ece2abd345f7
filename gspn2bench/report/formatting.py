"""Format names and numbers: escaped for their target, short, and without exponents."""

import json
import math
from collections.abc import Callable
from typing import Final

BYTE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")

TIMES: Final = "x"
"""The sign after a ratio: 2.30x."""
BY: Final = "\N{MULTIPLICATION SIGN}"
"""The sign between the factors of a product: batch by channels."""


def printable(name: str) -> str:
    """The name without control characters, which could control a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)


def script_json(value: object) -> str:
    """JSON that is safe inside <script>: without "<", ">", "&", U+2028 and U+2029.

    Raises:
        ValueError: the value contains NaN or infinity.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def number(value: float, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, grouped: 0.770, 31.6, 4,185. NaN is ""."""
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, decimals)}f}"


def speedup(ratio: float) -> str:
    """A speed-up: "40.3x", or below 1 "2.30x slower". NaN is ""."""
    factor, word = _factor(ratio)
    return f"{factor} {word}" if word == "slower" else factor


def speedups(low: float, high: float, base: str) -> str:
    """A range of speed-ups over a base: "15.9x to 41.0x faster than r01".

    An end below 1 reads as a slow-down: "2.30x slower to 1.40x faster than r01".
    """
    (least, worst), (most, best) = _factor(low), _factor(high)
    if not worst and not best:
        return f"about as fast as {base}"
    if worst and best and worst != best:
        return f"{least} {worst} to {most} {best} than {base}"
    ends = (most, least) if "slower" in (worst, best) else (least, most)
    return f"{' to '.join(dict.fromkeys(ends))} {worst or best} than {base}"


def _factor(ratio: float) -> tuple[str, str]:
    """A ratio as a factor of at least 1 and a word: "faster", "slower", or "" for 1.00x."""
    if math.isnan(ratio):
        return "", ""
    factor = number(max(ratio, 1 / ratio))
    word = "" if factor == number(1) else "faster" if ratio > 1 else "slower"
    return factor + TIMES, word


def count(value: float) -> str:
    """A whole number, thousands grouped: 1,024. NaN is ""."""
    return "" if math.isnan(value) else f"{value:,.0f}"


def scientific(value: float) -> str:
    """An error or a tolerance: 1.2e-06. NaN is ""."""
    return "" if math.isnan(value) else f"{value:.1e}"


def percent(share: float) -> str:
    """A share as a percentage: 0.987 is "98.7 %". NaN is ""."""
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def size(value: float, form: Callable[[float], str] = number) -> str:
    """Bytes in decimal units: 3.22 GB. NaN is ""."""
    if math.isnan(value):
        return ""
    power = min(len(BYTE_UNITS) - 1, int(math.log10(value)) // 3) if value >= 1 else 0
    if power == 0:
        return f"{value:.0f} B"
    return f"{form(value / 1000**power)} {BYTE_UNITS[power]}"


def plural(many: int, noun: str) -> str:
    """1 row, 2 rows."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"
