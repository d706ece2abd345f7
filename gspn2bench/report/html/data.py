"""The data embedded in the page: rows by column, samples, published figures, profiles."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pandas as pd

from gspn2bench.analysis.frame import published, rung_order
from gspn2bench.records.schema import Profile
from gspn2bench.records.store import Run
from gspn2bench.report.html.figures import CONFIG, Section
from gspn2bench.report.html.versus import CHANGE_COLUMNS, Versus
from gspn2bench.report.tables import PUBLISHED_KEYS, ROW_COLUMNS, Column, explained
from gspn2bench.report.verdict import simulated_sentence

Packed = dict[str, Any]

MOST_SAMPLES: Final = 60_000
"""Most samples in one page, about 0.4 MB. Beyond that, each row keeps evenly spaced samples."""
MOST_LAUNCHES: Final = 20_000
"""Most launches in the timelines of one page. Trials beyond that keep their totals only."""
DIGITS: Final = 6
"""Significant digits of the numbers in the page."""
SAMPLE_DIGITS: Final = 5


def payload(
    runs: Sequence[Run],
    table: pd.DataFrame,
    profiles: Sequence[tuple[str, Profile]],
    sections: Sequence[Section],
    comparisons: Sequence[Versus],
) -> Packed:
    """All data that the scripts of the page draw, ready for JSON.

    Args:
        runs: of the report.
        table: of these runs, from ``analysis.frame``.
        profiles: each with the id of its run.
        sections: the sections whose figures are drawn.
        comparisons: of the first run with each of the others.
    """
    shown = explained(table)
    figures, beside = _published(runs, table)
    samples, thinned = _samples(runs, table)
    columns = {str(key): _pack(shown[key].tolist()) for key in shown}
    return {
        "runs": [_run(run) for run in runs],
        "rungs": sorted(table["rung"].unique(), key=rung_order),
        "count": len(table),
        "columns": columns | {"beside": {"values": beside}},
        "samples": samples,
        "thinned": thinned,
        "published": figures,
        "trials": _trials(profiles),
        "changes": [each.rows for each in comparisons],
        "changeColumns": _columns(CHANGE_COLUMNS),
        "rowColumns": _columns(ROW_COLUMNS if len(runs) > 1 else ROW_COLUMNS[1:]),
        "figures": {
            drawing.id: {
                "title": drawing.title,
                "nothing": drawing.nothing,
                "timed": drawing.timed,
                "columns": _columns(drawing.columns),
            }
            for section in sections
            for drawing in section.figures
        },
        "config": CONFIG,
    }


def _run(run: Run) -> Packed:
    record = run.record
    why = f"Nothing to plot: {simulated_sentence(record)}" if record.simulated else ""
    return {
        "id": record.run_id,
        "title": record.title,
        "machine": record.machine or "",
        "simulated": record.simulated,
        "why": why,
    }


def _columns(columns: Iterable[Column]) -> list[Packed]:
    return [
        {
            "header": column.header,
            "key": column.key,
            "format": column.format.__name__ if column.format else None,
            "optional": column.optional,
            "folded": column.folded,
        }
        for column in columns
    ]


def _pack(values: list[Any]) -> Packed:
    """One value for all rows, indices into a list of names, or a value per row; None is missing."""
    plain = [_plain(value) for value in values]
    names = list(dict.fromkeys(plain))
    if len(names) == 1:
        return {"all": names[0]}
    if any(isinstance(name, str) for name in names):
        indices = {name: index for index, name in enumerate(names)}
        return {"names": names, "at": [indices[value] for value in plain]}
    return {"values": plain}


def _plain(value: Any, digits: int = DIGITS) -> str | bool | float | None:
    if value is None or pd.isna(value):
        return None
    if isinstance(value, str | bool):
        return value
    whole = float(value).is_integer()
    return int(value) if whole else float(f"{value:.{digits}g}")


def _published(runs: Sequence[Run], table: pd.DataFrame) -> tuple[list[Packed], list[list[int]]]:
    """The distinct published figures, and per row the indices of those that apply to it."""
    applied = published(runs)
    fields = [str(name) for name in applied if str(name).startswith("published_")]
    figures = applied[fields].drop_duplicates(ignore_index=True)
    indices = {tuple(map(_plain, line)): index for index, line in enumerate(figures.to_numpy())}
    keys = [*PUBLISHED_KEYS, "rung"]
    of_row: dict[tuple[Any, ...], list[int]] = {}
    for key, line in zip(
        applied[keys].itertuples(index=False, name=None), applied[fields].to_numpy(), strict=True
    ):
        of_row.setdefault(key, []).append(indices[tuple(map(_plain, line))])
    rows = table[keys].itertuples(index=False, name=None)
    packed = [dict(zip(fields, key, strict=True)) for key in indices]
    return packed, [of_row.get(row, []) for row in rows]


def _samples(runs: Sequence[Run], table: pd.DataFrame) -> tuple[list[list[Any]], int | None]:
    """The samples of each row with a latency, and the most kept per row; None if all are kept."""
    rows = [row for run in runs for row in run.rows]
    shown = table["latency_ms"].notna()
    samples = [row.samples_ms if fit else () for row, fit in zip(rows, shown, strict=True)]
    most = max(map(len, samples), default=0)
    if sum(map(len, samples)) > MOST_SAMPLES:
        most = max(1, MOST_SAMPLES // len(samples))
    kept = [[each[index] for index in _spread(len(each), most)] for each in samples]
    rounded = [[_plain(sample, SAMPLE_DIGITS) for sample in row] for row in kept]
    return rounded, most if any(len(row) > most for row in samples) else None


def _spread(count: int, most: int) -> Iterable[int]:
    """Indices from 0 to ``count`` - 1: all of them, or ``most`` of them, evenly spaced."""
    if count <= most:
        return range(count)
    return [index * count // most for index in range(most)]


def _trials(profiles: Sequence[tuple[str, Profile]]) -> list[Packed]:
    """The launches of each profiled trial; ``named`` holds indices into ``names``."""
    trials, left = [], MOST_LAUNCHES
    for run, profile in profiles:
        for trial in profile.trials:
            launches = [launch for launch in trial.timeline if launch.start_us is not None]
            launches = launches if len(launches) <= left else []
            left -= len(launches)
            names = list(dict.fromkeys(launch.name for launch in launches))
            trials.append(
                trial.model_dump(exclude={"timeline"})
                | {
                    "run": run,
                    "tool": " ".join(filter(None, (profile.tool, profile.tool_version))),
                    "names": names,
                    "named": [names.index(launch.name) for launch in launches],
                    "starts": [_plain(launch.start_us) for launch in launches],
                    "durations": [_plain(launch.duration_us) for launch in launches],
                }
            )
    return trials
