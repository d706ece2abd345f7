"""Tables of formatted cells; every header of a quantity has its unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from gspn2bench.records.store import Run
from gspn2bench.report.formatting import count, number, percent, plural, scientific, speedup

Format = Callable[[float], str]

PUBLISHED_KEYS: Final = ["run", "case", "phase", "dtype", "weights", "directions", "chunk"]
"""Columns that identify the case of a published figure."""


@dataclass(frozen=True)
class Column:
    """A column: its header with the unit, its key, and the format of its numbers; None for text."""

    header: str
    key: str
    format: Format | None = None
    optional: bool = False
    """Omitted if no row has a value."""
    folded: bool = False
    """Moved to the caption if every row has the same value."""


@dataclass(frozen=True)
class Table:
    """Headers and cells; ``numeric`` flags the columns to align right."""

    caption: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[bool, ...] = ()
    """Flags the rows to highlight: those that differ between runs."""


ROW_COLUMNS: Final = (
    Column("run", "run"),
    Column("case", "case"),
    Column("rung", "rung"),
    Column("phase", "phase"),
    Column("timing", "timing"),
    Column("L2", "l2", folded=True),
    Column("status", "status"),
    Column("latency, ms", "latency_ms", number),
    Column("95 % low, ms", "latency_ms_low", number),
    Column("95 % high, ms", "latency_ms_high", number),
    Column("host time, ms", "host_ms", number, optional=True),
    Column("speed-up", "speedup", speedup),
    Column("base", "base_rung"),
    Column("model bytes / latency, GB/s", "gbps", number),
    Column("share of copy bandwidth, %", "copy_share", percent),
    Column("extrapolated, ms", "extrapolated_ms", number, optional=True),
    Column("share of the possible gain, %", "gain_share", percent, optional=True),
    Column("floor, ms", "floor_ms", number),
    Column("floor / latency, %", "floor_share", percent),
    Column("bound of the floor", "floor_bound", optional=True),
    Column("launches expected", "launches_expected", count),
    Column("launches observed", "launches_observed", count),
    Column("model, bytes", "bytes_model", count),
    Column("traced, bytes", "bytes_traced", count, optional=True),
    Column("DRAM, bytes", "bytes_dram", count, optional=True),
    Column("32-byte sectors loaded", "sectors_load", count, optional=True),
    Column("32-byte sectors stored", "sectors_store", count, optional=True),
    Column("gate error, relative", "gate_error", scientific),
    Column("gate tolerance, relative", "gate_tolerance", scientific),
    Column("slices compared", "gate_slices", count, optional=True),
    Column("direction", "direction", folded=True),
    Column("directions", "directions", count, folded=True),
    Column("chunk, lines", "chunk", count, folded=True),
    Column("weights", "weights", folded=True),
    Column("dtype", "dtype", folded=True),
    Column("part", "part", folded=True),
    Column("C_proxy", "proxy", count, optional=True),
    Column("seed", "seed", folded=True),
    Column("compile, s", "compile_s", number, optional=True),
    Column("peak memory, bytes", "peak_memory_bytes", count, optional=True),
    Column("clock, MHz", "clock_mhz", count, optional=True),
    Column("temperature, °C", "temperature_c", count, optional=True),
    Column("throttle", "throttle", optional=True),
    Column("reason", "reason", optional=True),
)
FAILURE_COLUMNS: Final = (
    Column("run", "run"),
    Column("case", "title"),
    Column("rung", "rung"),
    Column("phase", "phase"),
    Column("timing", "timing"),
    Column("status", "status"),
    Column("reason", "reason"),
    Column("extrapolated, ms", "extrapolated_ms", number, optional=True),
)


def table_of(caption: str, columns: Sequence[Column], frame: pd.DataFrame) -> Table:
    """Columns of a DataFrame as a table; a missing value is an empty cell."""
    present = [c for c in columns if not (c.optional and frame[c.key].isna().all())]
    same = [c for c in present if c.folded and frame[c.key].nunique(dropna=False) == 1]
    kept = [column for column in present if column not in same]
    if same:
        facts = [f"{c.header} {_cells(frame[c.key].iloc[:1], c.format)[0]}" for c in same]
        caption += f" The same in every row: {'; '.join(facts)}."
    cells = [_cells(frame[column.key], column.format) for column in kept]
    return Table(
        caption,
        tuple(column.header for column in kept),
        tuple(column.format is not None for column in kept),
        tuple(zip(*cells, strict=True)),
    )


def explained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the reason for a withheld number, and simulated rows marked in ``status``."""
    return frame.assign(
        status=frame["status"].where(~frame["simulated"], frame["status"] + ", simulated"),
        reason=frame["reason"].where(frame["withheld"].isin(["", "simulated"]), frame["withheld"]),
    )


def failures_table(frame: pd.DataFrame) -> Table | None:
    """The rows without a number, with equal rows of several timings merged; None if there are none.

    A simulated row is included only if its status is not ok.
    """
    bad = frame[(frame["status"] != "ok") | ~frame["withheld"].isin(["", "simulated"])]
    if bad.empty:
        return None
    bad = bad.assign(reason=bad["withheld"].where(bad["status"] == "ok", bad["reason"]))
    keys = [column.key for column in FAILURE_COLUMNS if column.key != "timing"]
    merged = bad.groupby(keys, sort=False, dropna=False)["timing"].agg(", ".join).reset_index()
    columns = FAILURE_COLUMNS if frame["run"].nunique() > 1 else FAILURE_COLUMNS[1:]
    return table_of(
        f"{plural(len(bad), 'row')} of {len(frame):,} without a number.", columns, merged
    )


def environment_table(runs: Sequence[Run]) -> Table:
    """The recorded environments, one column per run; facts that differ are marked."""
    environments = [_flat(run.record.environment.model_dump()) for run in runs]
    keys = list(dict.fromkeys(key for facts in environments for key in facts))
    rows = [(key, *(facts.get(key, "") for facts in environments)) for key in keys]
    return Table(
        "Facts that differ between the runs are marked."
        if len(runs) > 1
        else "Recorded when the run began.",
        ("fact", *([run.record.run_id for run in runs] if len(runs) > 1 else ["value"])),
        (False,) * (len(runs) + 1),
        tuple(rows),
        tuple(len(set(row[1:])) > 1 for row in rows),
    )


def _cells(values: pd.Series, form: Format | None) -> list[str]:
    missing = values.isna()
    return [
        "" if absent else form(float(value)) if form else str(value)
        for value, absent in zip(values, missing, strict=True)
    ]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = "" if value is None else str(value)
    return flat
