"""The one list of rungs; the command line, tests, docs and reports all read it."""

from typing import Final

from gspn2bench.kernels import (
    r01_line_launch,
    r02_fused,
    r03_coalesced,
    r04_shared,
    r05_block2d,
    r06_compact,
    r07_gspn2,
)
from gspn2bench.kernels.contract import Rung

LADDER: Final[dict[str, Rung]] = {
    rung.id: rung
    for rung in (
        r01_line_launch.RUNG,
        r02_fused.RUNG,
        r03_coalesced.RUNG,
        r04_shared.RUNG,
        r05_block2d.RUNG,
        r06_compact.RUNG,
        r07_gspn2.RUNG,
    )
}
"""Rungs by id, in the order of the paper."""
