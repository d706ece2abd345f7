"""From rows to numbers that may be shown: the one definition of each derived figure.

``frame`` is the only door: what may not be shown (a row that is not ok, a gate that is not green,
a simulated row, a machine without a name) has no latency in it, so nothing downstream can leak one.
Behind a gate that is not green nothing observed is left at all.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from gspn2bench.schema import Row, RunRecord
from gspn2bench.store import Run

PAIR: Final = [
    *("run", "simulated", "case", "phase", "timing", "l2"),
    *("dtype", "weights", "directions", "chunk"),
]
"""Columns that two rows must share to be compared; the direction may differ between rungs."""

TIMINGS: Final = ("graph", "device", "eager")
"""Latency modes, the one to quote first."""
QUOTED: Final = ("graph", "device")
"""Modes that a speed-up is quoted in; eager time holds Numba's own launch cost."""

LATENCIES: Final = ["latency_ms", "latency_ms_low", "latency_ms_high"]
OBSERVED: Final = [
    "launches_observed",
    "bytes_traced",
    "bytes_dram",
    "sectors_load",
    "sectors_store",
]
NUMBERS: Final = [
    *LATENCIES,
    *OBSERVED,
    *("launches_expected", "bytes_model"),
    *("copy_gbps", "floor_ms", "compile_s", "peak_memory_bytes"),
    *("gate_error", "gate_tolerance", "gate_slices", "clock_mhz", "temperature_c"),
]


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Every row of the runs, with the derived figures beside it.

    Args:
        runs: the runs, each with an id of its own.

    Returns:
        One line a row, in the order recorded. Columns of ``schema.Row`` without ``samples_ms``;
        absent numbers are NaN. Added:
        ``run`` (id), ``machine``, ``title`` (the case, and what tells it from others of that name),
        ``gate_green``, ``withheld`` (why an ok row shows no latency, else ""),
        ``base_rung``, ``base_latency_ms``, ``overlaps`` (with the interval of the base),
        ``speedup`` (base latency / latency), ``gbps`` (``bytes_model`` / latency, GB/s),
        ``copy_share`` (``gbps`` / ``copy_gbps``), ``floor_share`` (``floor_ms`` / latency),
        ``traced_ratio`` and ``dram_ratio`` (bytes / ``bytes_model``),
        ``launches_agree`` (True, False or NA).
        The base is the lowest rung with an ok latency among the rows equal in ``PAIR``,
        and where that rung has several (directions, seeds), the fastest of them.
    """
    fields = [name for name in Row.model_fields if name != "samples_ms"]
    lines = [
        {"run": run.record.run_id, "machine": machine(run.record) or ""}
        | row.model_dump(exclude={"samples_ms"})
        | {"copy_gbps": row.copy_gbps or run.record.copy_gbps}
        for run in runs
        for row in run.rows
    ]
    table = pd.DataFrame(lines, columns=["run", "machine", *fields])
    table[NUMBERS] = table[NUMBERS].astype("float64")
    table["simulated"] = table["simulated"].astype(bool)
    table["title"] = _titles(table)
    _withhold(table)
    _pair(table)
    table["gbps"] = table["bytes_model"] / table["latency_ms"] / 1e6
    table["copy_share"] = table["gbps"] / table["copy_gbps"]
    table["floor_share"] = table["floor_ms"] / table["latency_ms"]
    table["traced_ratio"] = table["bytes_traced"] / table["bytes_model"]
    table["dram_ratio"] = table["bytes_dram"] / table["bytes_model"]
    counted = table["launches_expected"].notna() & table["launches_observed"].notna()
    agree = (table["launches_expected"] == table["launches_observed"]).astype("boolean")
    table["launches_agree"] = agree.where(counted)
    return table


def published(runs: Sequence[Run]) -> pd.DataFrame:
    """The published figures that apply to the rows of each run.

    A figure applies to a row when the rung is equal and so is every field named in its ``where``.

    Returns:
        One line for each figure and each ``run``, ``case``, ``phase``, ``dtype``, ``weights``,
        ``directions``, ``chunk``, ``rung`` that it applies to, with ``published_ms``,
        ``published_machine`` and ``published_source``.
    """
    keys = ["case", "phase", "dtype", "weights", "directions", "chunk", "rung"]
    lines: list[dict[str, object]] = [
        {"run": run.record.run_id}
        | {key: getattr(row, key) for key in keys}
        | {
            "published_ms": figure.latency_ms,
            "published_machine": figure.machine,
            "published_source": figure.source,
        }
        for run in runs
        for row in run.rows
        for figure in run.record.published
        if figure.rung == row.rung
        and all(getattr(row, key, None) == value for key, value in figure.where.items())
    ]
    columns = ["run", *keys, "published_ms", "published_machine", "published_source"]
    return pd.DataFrame(lines, columns=columns).drop_duplicates(ignore_index=True)


def machine(record: RunRecord) -> str | None:
    """The name of what ran the kernels, or None where the run does not say."""
    if record.simulated:
        return "Numba CUDA simulator"
    for key in ("gpu", "gpu_name", "gpus", "device"):
        found = record.environment.get(key)
        if isinstance(found, list):
            found = found[0] if found else None
        if isinstance(found, dict):
            found = found.get("name")
        if isinstance(found, str) and found.strip():
            return found
    return None


def rung_order(rung: str) -> tuple[bool, int, str]:
    """Sort key of rungs: r01, r02, ... r10 by number, then a user's own by name."""
    number = re.fullmatch(r"r(\d+)", rung)
    return (number is None, int(number[1]) if number else 0, rung)


def _titles(table: pd.DataFrame) -> pd.Series:
    """The case, followed by the fields of the pair that one case label stands for two values of."""
    titles = table["case"].astype("object").copy()
    words = {
        "dtype": "{}",
        "weights": "{} weights",
        "directions": "{} directions",
        "chunk": "chunk {}",
    }
    for _, rows in table.groupby(["run", "case"], sort=False):
        for field, word in words.items():
            if rows[field].nunique() > 1:
                titles[rows.index] += ", " + rows[field].map(word.format)
    return titles


def _withhold(table: pd.DataFrame) -> None:
    """Blank each number that may not be shown; say why where the status does not."""
    # NaN compares false: a gate without an error or a tolerance is not green
    table["gate_green"] = table["gate_error"] <= table["gate_tolerance"]
    table["withheld"] = ""
    for bad, why in (
        (table["machine"] == "", "the run does not name its GPU"),
        (~table["gate_green"], "the gate is not green"),
        (table["simulated"], "simulated"),
    ):
        table.loc[bad & (table["status"] == "ok"), "withheld"] = why
    table.loc[~table["gate_green"], OBSERVED] = float("nan")
    hidden = (table["status"] != "ok") | (table["withheld"] != "")
    table.loc[hidden, LATENCIES] = float("nan")


def _pair(table: pd.DataFrame) -> None:
    """Add the base rung of each row that has a latency, and the speed-up over it."""
    shown = table[table["latency_ms"].notna()]
    rank = {rung: place for place, rung in enumerate(sorted(set(shown["rung"]), key=rung_order))}
    table["base_rung"] = pd.Series(index=table.index, dtype="object")
    table["base_latency_ms"] = float("nan")
    table["overlaps"] = False
    for _, rows in shown.groupby(PAIR, sort=False):
        base: Any = min(rows.itertuples(), key=lambda row: (rank[row.rung], row.latency_ms))
        table.loc[rows.index, "base_rung"] = base.rung
        table.loc[rows.index, "base_latency_ms"] = base.latency_ms
        table.loc[rows.index, "overlaps"] = (rows["latency_ms_low"] <= base.latency_ms_high) & (
            rows["latency_ms_high"] >= base.latency_ms_low
        )
    table["speedup"] = table["base_latency_ms"] / table["latency_ms"]
