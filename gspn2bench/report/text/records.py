"""A run as JSON or CSV, for scripts."""

from typing import Any

import pandas as pd

from gspn2bench.analysis.frame import frame
from gspn2bench.records.schema import Count, Row
from gspn2bench.records.store import Run
from gspn2bench.report.formatting import printable
from gspn2bench.report.summary import summary

COUNTS = [name for name, field in Row.model_fields.items() if field.annotation == Count | None]
"""Columns of whole numbers, which pandas stores as floats if some are missing."""


def to_json(run: Run) -> dict[str, Any]:
    """The run for JSON: ``run``, ``verdict``, ``facts``, ``command`` and ``rows``.

    Rows have the columns of docs/columns.md except raw samples. Withheld values are None.
    """
    head = summary(run)
    table = _rows(run).astype(object)
    return {
        "run": run.record.run_id,
        "path": str(run.path),
        "simulated": run.record.simulated,
        "verdict": {
            "headline": head.conclusion.headline,
            "details": list(head.conclusion.details),
        },
        "facts": dict(head.facts),
        "command": head.command,
        "rows": table.where(table.notna(), None).to_dict("records"),
    }


def to_csv(run: Run) -> str:
    """The rows as CSV, with the columns of ``to_json``; a missing value is an empty cell."""
    table = _rows(run)
    words = table.select_dtypes(["object", "str"])
    table[words.columns] = words.map(
        lambda cell: printable(cell) if isinstance(cell, str) else cell
    )
    return table.to_csv(index=False, lineterminator="\n")


def _rows(run: Run) -> pd.DataFrame:
    table = frame([run])
    return table.astype(dict.fromkeys(COUNTS, "Int64"))
