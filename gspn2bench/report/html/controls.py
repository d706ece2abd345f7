"""What a reader of the page can choose for every figure and table, and what is chosen at first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from gspn2bench.analysis.frame import TIMINGS
from gspn2bench.problem import CASE_PHASES

ANY: Final = "any"
WORDS: Final = {
    "graph": "graph: the work on the GPU",
    "device": "device: the kernels alone",
    "eager": "eager: a Python call",
    "channel": "for each channel",
    "shared": "shared by all channels",
    ANY: "any: as each rung runs",
    "all": "all four",
}
"""Options that want more than their own name."""


@dataclass(frozen=True)
class Control:
    """A choice of one: its id, its label, (value, text) of each option, the one chosen at first."""

    id: str
    label: str
    options: tuple[tuple[str, str], ...]
    chosen: str


def controls(table: pd.DataFrame, ids: Sequence[str]) -> list[Control]:
    """The choices that the rows of these runs offer.

    At first: the last run, which is the new one of two; the pass and the latency mode that come
    first among its latencies; its main case, which is its first; any direction.

    Args:
        table: of the runs, from ``analysis.frame``.
        ids: of the runs, in order.
    """
    rows = table[table["run"] == ids[-1]]
    timed = rows[rows["latency_ms"].notna()]
    main = next((part for part in (timed, rows, table) if len(part)), table)
    choices = [
        ("run", "Run", list(ids), ids[-1:]),
        (
            "phase",
            "Pass",
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
