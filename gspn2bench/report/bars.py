"""Grouped horizontal bars on a log axis, as a plain Plotly figure.

Colours are names of the page's CSS variables; page.js puts in their values, so that charts follow
the light or dark scheme. Each series has a pattern besides its colour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gspn2bench.report.text import chart_label

Figure = dict[str, Any]

CONFIG: Final = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtons": [["toImage"]],
}
PATTERNS: Final = {
    "ours": "",
    "published-0": "/",
    "published-1": "x",
    "published-2": "\\",
    "published-3": ".",
    "expected": "/",
    "observed": "",
    "model": "",
    "traced": "x",
    "dram": ".",
}
SLOT_PX: Final = 24
CHARACTER_PX: Final = 7


@dataclass(frozen=True)
class Series:
    """One kind of bar: ``key`` names its colour and pattern, ``name`` stands in the legend."""

    key: str
    name: str


@dataclass(frozen=True)
class Bar:
    """One bar: a value, what the tick says, what stands beside it; interval and mark if any.

    A value of NaN draws no bar: its text stands in the place and says why.
    """

    series: Series
    tick: str
    value: float
    text: str
    low: float = math.nan
    high: float = math.nan
    mark: float = math.nan


@dataclass(frozen=True)
class Group:
    """The bars of one case under its name."""

    title: str
    bars: tuple[Bar, ...]


def figure(
    groups: Sequence[Group],
    axis: str,
    tick_text: Callable[[float], str] = "{:,.12g}".format,
    start: float = math.inf,
) -> Figure:
    """A figure of data, layout and config, ready for JSON.

    Args:
        groups: top to bottom, at least one bar in each.
        axis: title of the value axis, with its unit.
        tick_text: how a value is written on the axis.
        start: where the axis begins at the latest.
    """
    places, headings, bottom = _places(groups)
    bars = [
        (bar, y) for group, ys in zip(groups, places, strict=True) for bar, y in _pairs(group, ys)
    ]
    low, high = _span(groups, start)
    keys = list(dict.fromkeys(bar.series.key for bar, _ in bars))
    drawn = [(bar, y) for bar, y in bars if not math.isnan(bar.value)]
    data = [_trace([(b, y) for b, y in drawn if b.series.key == key], key, low) for key in keys]
    data.append(_texts(bars, low))
    ticks = _ticks(low, high)
    left = 18 + CHARACTER_PX * max(len(bar.tick[:18]) for bar, _ in bars)
    layout = {
        "height": round(SLOT_PX * bottom) + 64,
        "margin": {
            "l": left,
            "r": 12 + CHARACTER_PX * max((len(bar.text) for bar, _ in drawn), default=0),
            "t": 8,
            "b": 56,
        },
        "showlegend": False,
        "dragmode": False,
        "bargap": 0,
        "barmode": "overlay",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--ink)", "size": 12, "family": "system-ui, sans-serif"},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": "var(--muted)",
            "activecolor": "var(--ink)",
        },
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "xaxis": {
            "type": "log",
            "range": [math.log10(low), math.log10(high)],
            "tickvals": ticks,
            "tickangle": 0,
            "ticktext": [tick_text(tick) for tick in ticks],
            "title": {"text": axis, "standoff": 8},
            "gridcolor": "var(--line)",
            "fixedrange": True,
            "zeroline": False,
        },
        "yaxis": {
            "range": [bottom, 0],
            "tickvals": [y for _, y in bars],
            "ticktext": [chart_label(bar.tick, 18) for bar, _ in bars],
            "ticks": "",
            "ticklabelstandoff": 6,
            "showgrid": False,
            "fixedrange": True,
            "zeroline": False,
        },
        "annotations": [_heading(title, y, left) for title, y in headings],
        "shapes": [
            _mark(bar.mark, y, *line)
            for bar, y in drawn
            if bar.mark > 0
            # a casing first, so that the mark is seen on the bar as well as off it
            for line in (("var(--surface)", 7), ("var(--floor)", 3))
        ],
    }
    return {"data": data, "layout": layout, "config": CONFIG}


def _pairs(group: Group, ys: list[float]) -> list[tuple[Bar, float]]:
    return list(zip(group.bars, ys, strict=True))


def _places(groups: Sequence[Group]) -> tuple[list[list[float]], list[tuple[str, float]], float]:
    """Centres of the bars of each group, of the headings, and where the last one ends: in slots."""
    places, headings, y = [], [], 0.0
    for group in groups:
        headings.append((group.title, y + 0.5))
        places.append([y + 1.5 + place for place in range(len(group.bars))])
        y += len(group.bars) + 1.35
    return places, headings, y


def _span(groups: Sequence[Group], start: float) -> tuple[float, float]:
    """The ends of the axis: below every value, so that each bar is seen, and at the largest."""
    bars = [bar for group in groups for bar in group.bars]
    values = [bar.value for bar in bars if bar.value > 0] + [
        bar.mark for bar in bars if bar.mark > 0
    ]
    ends = values + [bar.high for bar in bars if bar.high > 0]
    if not values:
        return 0.5, 10.0
    least = min(start, min(values) / 1.8)
    step = 10 ** math.floor(math.log10(least))
    low = max(step * nice for nice in (1, 2, 5) if step * nice <= least * 1.0001)
    return low, max(*ends, low * 10)


def _ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 1.3 else (1,)
    every = max(1, math.ceil(decades / 5))
    ticks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def _trace(bars: list[tuple[Bar, float]], key: str, low: float) -> Figure:
    colour = f"var(--{key.partition('-')[0]})"
    trace: Figure = {
        "type": "bar",
        "orientation": "h",
        "y": [y for _, y in bars],
        # a log axis has no place for 0: the bar is a stub, its text says 0
        "x": [max(bar.value, low) for bar, _ in bars],
        "width": 0.78,
        "marker": {
            "color": colour,
            "line": {"color": colour, "width": 1.2},
            "pattern": {
                "shape": PATTERNS[key],
                "fillmode": "replace",
                "bgcolor": "var(--surface)",
                "size": 7,
                "solidity": 0.35,
            },
        },
        "hoverinfo": "text",
        "hovertext": [_hover(bar) for bar, _ in bars],
    }
    if any(bar.high > 0 for bar, _ in bars):
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [_gap(bar.high - bar.value) for bar, _ in bars],
            "arrayminus": [_gap(bar.value - bar.low) for bar, _ in bars],
            "color": "var(--ink)",
            "thickness": 1.5,
            "width": 5,
        }
    return trace


def _gap(length: float) -> float:
    return 0.0 if math.isnan(length) else max(0.0, length)


def _hover(bar: Bar) -> str:
    return f"{chart_label(bar.tick)}: {chart_label(bar.text)}<br>{chart_label(bar.series.name, 90)}"


def _texts(bars: list[tuple[Bar, float]], low: float) -> Figure:
    """The text right of each bar and of its interval, running over into the margin."""
    return {
        "type": "scatter",
        "mode": "text",
        "y": [y for _, y in bars],
        # the value first: max() passes over a NaN only from its right
        "x": [max(low, bar.value, bar.high) for bar, _ in bars],
        "text": [" " + chart_label(bar.text) for bar, _ in bars],
        "textposition": "middle right",
        "cliponaxis": False,
        "hoverinfo": "skip",
    }


def _heading(title: str, y: float, left: int) -> Figure:
    return {
        "text": f"<b>{chart_label(title)}</b>",
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 4 - left,
        "y": y,
        "yref": "y",
        "showarrow": False,
        "align": "left",
    }


def _mark(value: float, y: float, colour: str, width: int) -> Figure:
    return {
        "type": "line",
        "x0": value,
        "x1": value,
        "y0": y - 0.5,
        "y1": y + 0.5,
        "line": {"color": colour, "width": width},
    }
