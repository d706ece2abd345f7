"""Derived figures, each defined once, and the numbers that may be shown.

All reports read runs through ``frame``, which blanks numbers that must not be shown. A row has no
latency if it is not ok, its gate is not green, it is simulated, or its machine has no name. A row
whose gate is not green has no observed numbers at all.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import pandas as pd

from gspn2bench.records.schema import Published, Row, RunRecord
from gspn2bench.records.store import Run

PAIR: Final = [
    *("run", "simulated", "case", "phase", "timing", "l2"),
    *("dtype", "weights", "directions", "chunking"),
]
"""Columns that two rows must share to be compared; the direction may differ between rungs."""

WHOLE: Final = "whole scan"
"""The value of ``chunking`` if h never restarts."""

SCALED: Final = ["run", "rung", "part", "phase", "timing", "l2", "dtype", "batch", "channels"]
"""Columns that a row shares with the row that it is extrapolated from."""

NETWORKS: Final = ("unet", "encoder")
"""Parts that are whole networks, of which attention is only a share."""
SOFTMAX: Final = "attention_sdpa"
"""A network with softmax attention."""
WITHOUT: Final = "identity"
"""A network with self-attention left out: no replacement can gain more."""
COMPILED: Final = "_compiled"
"""The end of the id of a compiled module."""

TIMINGS: Final = ("graph", "device", "eager")
"""Latency modes, the most quoted first."""
QUOTED: Final = ("graph", "device")
"""Modes in which speed-ups are quoted; eager time includes launches from Python."""

LATENCIES: Final = ["latency_ms", "latency_ms_low", "latency_ms_high"]
OBSERVED: Final = [
    "launches_observed",
    "bytes_traced",
    "bytes_dram",
    "sectors_load",
    "sectors_store",
]
ROW_TIMES: Final = [*LATENCIES, "host_ms"]
"""Times that only a row with a number has."""
SAMPLES: Final = {"samples_ms", "host_samples_ms", "block_samples", "block_clocks_mhz"}
"""Raw samples and their blocks, which the table leaves out."""
NUMBERS: Final = [
    *ROW_TIMES,
    *OBSERVED,
    *("launches_expected", "bytes_model"),
    *("copy_gbps", "floor_ms", "compile_s", "peak_memory_bytes"),
    *("gate_error", "gate_tolerance", "gate_slices", "clock_mhz", "temperature_c", "proxy"),
]


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """All rows of the runs as a table, with derived figures.

    Args:
        runs: runs with different ids.

    Returns:
        One line per row, in the order recorded. The columns are those of ``schema.Row`` without
        ``SAMPLES``; missing numbers are NaN. Additional columns:

        - ``run``: id of the run.
        - ``machine``: see ``machine``; "" if unknown.
        - ``chunking``: "whole scan" if h never restarts, otherwise the chunk. Unchunked scans of
          both axes thus have the same value.
        - ``title``: see ``_titles``.
        - ``gate_green``: whether the gate is green.
        - ``withheld``: why an ok row shows no latency; otherwise "".
        - ``base_rung``, ``base_latency_ms``: the base of the speed-up. It is the first rung of
          ``base_order`` with an ok latency among the rows equal in ``PAIR``. If that rung has
          several such rows (directions, seeds), the fastest one counts.
        - ``overlaps``: whether the interval overlaps that of the base.
        - ``speedup``: base latency / latency.
        - ``gbps``: ``bytes_model`` / latency, GB/s.
        - ``copy_share``: ``gbps`` / ``copy_gbps``.
        - ``floor_share``: ``floor_ms`` / latency.
        - ``traced_ratio``, ``dram_ratio``: traced bytes and DRAM bytes / ``bytes_model``.
        - ``launches_agree``: True, False or NA.
        - ``extrapolated_ms``: see ``_extrapolated``; only in rows without a latency.
        - ``gain_share``: see ``_gain_share``; only in rows of whole networks.
    """
    fields = [name for name in Row.model_fields if name not in SAMPLES]
    lines = [
        {"run": run.record.run_id, "machine": run.record.machine or ""}
        | row.model_dump(exclude=SAMPLES)
        | {"copy_gbps": row.copy_gbps or run.record.copy_gbps}
        for run in runs
        for row in run.rows
    ]
    table = pd.DataFrame(lines, columns=["run", "machine", *fields])
    table[NUMBERS] = table[NUMBERS].astype("float64")
    table["simulated"] = table["simulated"].astype(bool)
    table["chunking"] = _chunking(table)
    table["title"] = _titles(table)
    _withhold(table)
    _pair(table, runs)
    table["gbps"] = table["bytes_model"] / table["latency_ms"] / 1e6
    table["copy_share"] = table["gbps"] / table["copy_gbps"]
    table["floor_share"] = table["floor_ms"] / table["latency_ms"]
    table["traced_ratio"] = table["bytes_traced"] / table["bytes_model"]
    table["dram_ratio"] = table["bytes_dram"] / table["bytes_model"]
    counted = table["launches_expected"].notna() & table["launches_observed"].notna()
    agree = (table["launches_expected"] == table["launches_observed"]).astype("boolean")
    table["launches_agree"] = agree.where(counted)
    without = _latency_of(table, WITHOUT)
    table["extrapolated_ms"] = _extrapolated(table, without)
    table["gain_share"] = _gain_share(table, without)
    return table


def published(runs: Sequence[Run]) -> pd.DataFrame:
    """The published figures that apply to the rows of each run.

    A figure applies to a row if the rung and every field named in its ``where`` are equal.

    Returns:
        One line per figure and per ``run``, ``case``, ``phase``, ``dtype``, ``weights``,
        ``directions``, ``chunk``, ``rung`` that it applies to, with ``published_ms`` and
        ``published_gbps`` (one of them is NaN; GB/s as counted by the source),
        ``published_machine`` and ``published_source``.
    """
    keys = ["case", "phase", "dtype", "weights", "directions", "chunk", "rung"]
    lines: list[dict[str, object]] = [
        {"run": run.record.run_id}
        | {key: getattr(row, key) for key in keys}
        | {
            "published_ms": _published_ms(figure, row),
            "published_gbps": figure.gbps,
            "published_machine": figure.machine,
            "published_source": figure.source,
        }
        for run in runs
        for row in run.rows
        for figure in run.record.published
        if figure.rung == row.rung
        and all(getattr(row, key, None) == value for key, value in figure.where.items())
    ]
    numbers, texts = ["published_ms", "published_gbps"], ["published_machine", "published_source"]
    table = pd.DataFrame(lines, columns=["run", *keys, *numbers, *texts])
    table[numbers] = table[numbers].astype("float64")
    return table.drop_duplicates(ignore_index=True)


def _published_ms(figure: Published, row: Row) -> float | None:
    """The latency of a figure, ms; images per second are converted for the batch of the row."""
    if figure.images_per_s is not None:
        return row.batch / figure.images_per_s * 1e3
    return figure.latency_ms


def rung_order(rung: str) -> tuple[bool, int, str]:
    """Sort key of rungs: r01, r02, ... r06, r06a, r07 by number, then all others by name."""
    number = re.fullmatch(r"r(\d+)[a-z]?", rung)
    return (number is None, int(number[1]) if number else 0, rung)


def base_order(record: RunRecord, rungs: Iterable[str]) -> list[str]:
    """Rungs in the order of preference as the base of a speed-up.

    The base that the run names comes first. Rungs of the ladder follow by number, then the others
    in the order in which the run lists them. Rungs that the run does not list come last, by name;
    only a user's file in an older run can be such a rung.

    Args:
        record: of the run.
        rungs: ids, in any order.
    """
    if record.plan:
        listed = record.plan.ids or record.plan.rungs
    else:
        listed = record.traffic.rungs if record.traffic else ()

    def key(rung: str) -> tuple[bool, bool, int, str]:
        outside, number, name = rung_order(rung)
        place = listed.index(rung) if rung in listed else len(listed)
        return (rung != record.base, outside, place if outside else number, name)

    return sorted(set(rungs), key=key)


def _latency_of(table: pd.DataFrame, rung: str) -> pd.Series:
    """The latency of a rung in the case of each row of a network, compiled where the row is, ms."""
    ends = table["rung"].str.endswith(COMPILED)
    wanted = table[PAIR].assign(rung=pd.Series(rung, table.index).where(~ends, rung + COMPILED))
    shown = table[table["latency_ms"].notna() & table["part"].isin(NETWORKS)]
    fastest = shown.sort_values("latency_ms").drop_duplicates([*PAIR, "rung"])
    columns = [*PAIR, "rung", "latency_ms"]
    found = wanted.merge(fastest[columns], "left", on=[*PAIR, "rung"])
    return found["latency_ms"].set_axis(table.index)


def _gain_share(table: pd.DataFrame, without: pd.Series) -> pd.Series:
    """The share of the possible gain: the time saved over that saved without self-attention.

    Compiled rows are compared with compiled rows. An extrapolated time of softmax attention stands
    for a missing one.
    """
    estimates = table.assign(latency_ms=table["latency_ms"].fillna(table["extrapolated_ms"]))
    softmax = _latency_of(estimates, SOFTMAX)
    possible = (softmax - without).where(softmax > without)
    other = ~table["rung"].str.removesuffix(COMPILED).isin([SOFTMAX, WITHOUT])
    share = (softmax - table["latency_ms"]) / possible
    return share.where(table["part"].isin(NETWORKS) & other)


def _extrapolated(table: pd.DataFrame, without: pd.Series) -> pd.Series:
    """Estimated latency of attention in cases that were not measured, ms.

    Scales the latency of the largest map that the same back end was measured on by the square of
    the number of positions. The projections grow only linearly with the number of positions, but
    are scaled like the rest. Of a whole network only the time of attention is scaled: its
    difference from the network without self-attention, whose time in the same case is added.

    Args:
        table: the rows.
        without: latency of the network without self-attention in the case of each row.
    """
    sizes = table["height"].astype("float64") * table["width"].astype("float64")
    network = table["part"].isin(NETWORKS)
    rest = without.where(network, 0.0)
    measured = table.assign(positions=sizes, rest=rest)
    measured = measured[table["latency_ms"].notna() & rest.notna()]
    largest = measured.sort_values("positions").drop_duplicates(SCALED, keep="last")
    columns = [*SCALED, "positions", "latency_ms", "rest"]
    known = table[SCALED].merge(largest[columns], "left", on=SCALED)
    known.index = table.index
    attention = known["latency_ms"] - known["rest"]
    scaled = attention * (sizes / known["positions"]) ** 2 + rest
    softmax = table["rung"].str.startswith("attention_") & ((table["part"] == "module") | network)
    missing = table["status"].isin(["skipped", "oom", "timeout"])
    return scaled.where(softmax & missing & (sizes > known["positions"]))


def _chunking(table: pd.DataFrame) -> pd.Series:
    # rows of all four directions record the chunk of the first direction, which is down
    vertical = table["direction"].isin(["down", "up", "all"])
    steps = table["height"].where(vertical, table["width"])
    return table["chunk"].map("chunk {}".format).where(table["chunk"] < steps, WHOLE)


def _titles(table: pd.DataFrame) -> pd.Series:
    """The label of each case, which names all of its fields except the phase.

    If a case leaves the direction to the rung, its chunk may be the whole scan in one direction
    only. Rows that scan the whole are then not paired with the others, and ", whole scan" is
    appended to their title.
    """
    titles = table["case"].astype("object")
    several = table.groupby(["run", "case"])["chunking"].transform("nunique") > 1
    return titles.where(~several | (table["chunking"] != WHOLE), titles + f", {WHOLE}")


def _withhold(table: pd.DataFrame) -> None:
    """Blank numbers that must not be shown; ``withheld`` has the reason if the row is ok."""
    # comparisons with NaN are false: a gate without an error or a tolerance is not green
    table["gate_green"] = table["gate_error"] <= table["gate_tolerance"]
    table["withheld"] = ""
    for bad, reason in (
        (table["machine"] == "", "the run does not name its GPU"),
        (~table["gate_green"], "the gate is not green"),
        (table["simulated"], "simulated"),
    ):
        table.loc[bad & (table["status"] == "ok"), "withheld"] = reason
    table.loc[~table["gate_green"], OBSERVED] = float("nan")
    hidden = (table["status"] != "ok") | (table["withheld"] != "")
    table.loc[hidden, ROW_TIMES] = float("nan")


def _pair(table: pd.DataFrame, runs: Sequence[Run]) -> None:
    """Add the base of each row with a latency, and the speed-up over it."""
    shown = table[table["latency_ms"].notna()]
    ranks = {
        (run.record.run_id, rung): rank
        for run in runs
        for rank, rung in enumerate(base_order(run.record, (row.rung for row in run.rows)))
    }
    rank = [ranks[key] for key in zip(shown["run"], shown["rung"], strict=True)]
    ranked = shown.assign(rank=rank).sort_values(["rank", "latency_ms"])
    base = ranked.drop_duplicates(PAIR)[[*PAIR, "rung", *LATENCIES]]
    base = shown[PAIR].merge(base, how="left", on=PAIR).set_index(shown.index).reindex(table.index)
    table["base_rung"] = base["rung"].astype("object")
    table["base_latency_ms"] = base["latency_ms"]
    table["speedup"] = base["latency_ms"] / table["latency_ms"]
    # both comparisons are false if an interval is missing
    table["overlaps"] = (table["latency_ms_low"] <= base["latency_ms_high"]) & (
        table["latency_ms_high"] >= base["latency_ms_low"]
    )
