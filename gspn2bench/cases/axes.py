"""Axes: the fields of a case that a sweep may vary, and their grammar on the command line.

The grammar is that of nvbench::

    batch=5  batch=[1,2,4]  size=[16:24:4]  channels[pow2]=[0:3]  dtype=[float32,bfloat16]

A range is start:stop or start:stop:step and includes its stop. With ``[pow2]`` the numbers are
exponents of two.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gspn2bench.errors import UsageError, unknown
from gspn2bench.problem import CASE_PHASES, DIRECTIONS, DTYPES, MAX_EXTENT, PARTS, WEIGHTS

Value = int | str | None

NATIVE: Final = "native"
"""The direction that each rung chooses for itself."""
NONE: Final = "none"
"""How the command line and scenario files write None."""
MAY_BE_NONE: Final = ("chunk", "proxy")
"""Axes that accept None: the whole scan length, and a C_proxy that the module chooses."""
MAX_VALUES: Final = 10_000
MAX_EXPONENT: Final = MAX_EXTENT.bit_length() - 1

NUMBERS: Final = (
    *("batch", "channels", "size", "height", "width"),
    *("chunk", "directions", "logits", "proxy"),
)
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "dtype": DTYPES,
    "direction": (NATIVE, *DIRECTIONS),
    "weights": WEIGHTS,
    "phase": CASE_PHASES,
    "part": PARTS,
}
AXES: Final = (*NUMBERS, *WORDS)

_TOKEN: Final = re.compile(r"(?P<name>[^\[\]=]*)(?P<pow2>\[pow2\])?=(?P<body>.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class Axis:
    """One field and its values, in order; "size" stands for height and width."""

    name: str
    values: tuple[Value, ...]


def parse_axis(text: str) -> Axis:
    """Read an axis of the command line: ``name=values`` or ``name[pow2]=values``.

    Raises:
        UsageError: a syntax error, an unknown axis, or values that are missing, repeated, too
            many or out of bounds; the message quotes the whole token and the offending value.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise UsageError(f"--axis {text!r}: {str(error).removeprefix('axis: ')}") from error


def make_axis(name: str, values: Sequence[object]) -> Axis:
    """An axis of values that are numbers and words already, such as those of a TOML file.

    Raises:
        ValueError: an unknown axis, or values that are missing, repeated, too many or out of
            bounds; the message names the value and the bound.
    """
    if name not in AXES:
        raise unknown("axis", name, AXES)
    if not values:
        raise ValueError(f"{name} has no values")
    _check_count(name, len(values))
    checked = tuple(check_value(name, value) for value in values)
    seen: set[Value] = set()
    for value in checked:
        if value in seen:
            raise ValueError(f"{name}: {_show(value)} is given twice")
        seen.add(value)
    return Axis(name, checked)


def check_value(name: str, value: object) -> Value:
    """Check one value of the axis ``name``; "none" becomes None.

    Raises:
        ValueError: the type is wrong or the value is out of bounds; the message names both.
    """
    if name in WORDS:
        if not isinstance(value, str) or value not in WORDS[name]:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(WORDS[name])}")
        return value
    if name in MAY_BE_NONE and value in (None, NONE):
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        also = f" or {NONE}" if name in MAY_BE_NONE else ""
        raise ValueError(f"{name}: {value!r} is not a whole number{also}")
    if name == "logits":
        if value not in (0, 1):
            raise ValueError(f"{name}: {value} is neither 0 nor 1")
        return value
    if value < 1:
        raise ValueError(f"{name}: {value} is below 1")
    if value > MAX_EXTENT:
        raise ValueError(f"{name}: {value} is above {MAX_EXTENT}")
    if name == "directions" and value not in (1, len(DIRECTIONS)):
        raise ValueError(f"{name}: {value} is neither 1 nor {len(DIRECTIONS)}")
    return value


def _parse(text: str) -> Axis:
    token = _TOKEN.fullmatch(text)
    if token is None:
        raise ValueError("write name=value, name=[a,b], name=[start:stop:step] or name[pow2]=...")
    name, body = token["name"].strip(), token["body"].strip()
    if name not in AXES:
        raise unknown("axis", name, AXES)
    if token["pow2"] and name not in NUMBERS:
        raise ValueError(f"[pow2] needs numbers, but the values of {name} are words")
    bracketed = body.startswith("[") and body.endswith("]") and len(body) > 1
    inner = body[1:-1].strip() if bracketed else body
    if "[" in inner or "]" in inner:
        raise ValueError(f"brackets do not match in {body!r}")
    if not inner:
        raise ValueError(f"{name} has no values")
    if ":" in inner and not bracketed:
        raise ValueError(f"write a range in brackets: [{inner}]")
    if "," in inner and not bracketed:
        raise ValueError(f"write a list in brackets: [{inner}]")
    values: Sequence[object]
    if ":" in inner:
        values = _range(name, inner)
    else:
        values = [_item(name, item.strip()) for item in inner.split(",")]
    if token["pow2"]:
        values = [_power(value) for value in values]
    return make_axis(name, values)


def _range(name: str, inner: str) -> range:
    parts = [_number(part.strip()) for part in inner.split(":")]
    if len(parts) > 3:
        raise ValueError(f"{inner!r} has {len(parts)} parts; a range is start:stop:step")
    start, stop, step = (*parts, 1)[:3]
    if name not in NUMBERS:
        raise ValueError(f"{inner!r} is a range, but the values of {name} are words")
    if step < 1:
        raise ValueError(f"the step {step} is below 1")
    if start > stop:
        raise ValueError(f"the start {start} is above the stop {stop}")
    _check_count(name, (stop - start) // step + 1)
    return range(start, stop + 1, step)


def _item(name: str, item: str) -> int | str:
    if not item:
        raise ValueError("a value is missing between commas")
    if name in WORDS or (name in MAY_BE_NONE and item == NONE):
        return item
    return _number(item)


def _number(item: str) -> int:
    if not _INTEGER.fullmatch(item):
        raise ValueError(f"{item!r} is not a whole number")
    # int() refuses thousands of digits with a message of its own
    if len(item.lstrip("+-0")) > len(str(MAX_EXTENT)):
        side = f"below {-MAX_EXTENT}" if item.startswith("-") else f"above {MAX_EXTENT}"
        raise ValueError(f"{item} is {side}")
    return int(item)


def _power(exponent: object) -> int:
    if not isinstance(exponent, int):
        raise ValueError(f"{exponent!r} is not an exponent of two")
    if not 0 <= exponent <= MAX_EXPONENT:
        side = "below 0" if exponent < 0 else f"above {MAX_EXPONENT}"
        raise ValueError(f"the exponent {exponent} is {side}")
    return int(2**exponent)


def _check_count(name: str, count: int) -> None:
    if count > MAX_VALUES:
        raise ValueError(f"{name} has {count:,} values, above {MAX_VALUES:,}")


def _show(value: Value) -> str:
    return NONE if value is None else str(value)
