"""The filters of the page, which apply to every figure and table, and their first values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from gspn2bench.analysis.frame import TIMINGS
from gspn2bench.problem import CASE_PHASES

ANY: Final = "any"
WORDS: Final = {
    "graph": "graph: replay of a CUDA graph",
    "device": "device: sum of kernel durations",
    "eager": "eager: call from Python",
    "channel": "channel: one set per channel",
    "shared": "shared: one set for all channels",
    ANY: "any",
    "all": "all four",
}
"""Texts of the options that need more than their value."""


@dataclass(frozen=True)
class Control:
    """A selection: its id, its label, the options as (value, text), and the first value."""

    id: str
    label: str
    options: tuple[tuple[str, str], ...]
    chosen: str


def controls(table: pd.DataFrame, ids: Sequence[str]) -> list[Control]:
    """The filters for the rows of these runs.

    The first values are the last run, the first phase and latency mode in which it has a latency,
    the type and weights of its first row with one, and any direction.

    Args:
        table: the rows of the runs, from ``analysis.frame``.
        ids: the ids of the runs, in order.
    """
    rows = table[table["run"] == ids[-1]]
    timed = rows[rows["latency_ms"].notna()]
    main = next((part for part in (timed, rows, table) if len(part)), table)
    choices = [
        ("run", "Run", list(ids), ids[-1:]),
        (
            "phase",
            "Phase",
            _ranked(table["phase"], CASE_PHASES),
            _ranked(main["phase"], CASE_PHASES),
        ),
        ("timing", "Latency", _ranked(table["timing"], TIMINGS), _ranked(main["timing"], TIMINGS)),
        *(
            (key, label, list(table[key].unique()), list(main[key].unique()))
            for key, label in (("dtype", "Storage type"), ("weights", "Weights"))
        ),
        ("direction", "Direction", [ANY, *table["direction"].unique()], [ANY]),
    ]
    return [
        Control(
            key,
            label,
            tuple((option, WORDS.get(option, option)) for option in options),
            chosen[0] if chosen else "",
        )
        for key, label, options, chosen in choices
    ]


def _ranked(values: pd.Series, order: Sequence[str]) -> list[str]:
    return [value for value in order if (values == value).any()]
