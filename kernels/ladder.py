"""The one list of rungs, which the command line, tests, docs and reports read."""

from typing import Final

from gspn2bench.kernels import (
    r01_line_launch,
    r02_fused,
    r03_coalesced,
    r04_shared,
    r05_block2d,
    r06_compact,
    r06a_columns,
    r06b_ring,
    r06c_branchless,
    r07_gspn2,
    r08_strips,
    r09_quad,
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
        r06a_columns.RUNG,
        r06b_ring.RUNG,
        r06c_branchless.RUNG,
        r07_gspn2.RUNG,
        r08_strips.RUNG,
        r09_quad.RUNG,
    )
}
"""Rungs by id, in the order of the ladder."""
