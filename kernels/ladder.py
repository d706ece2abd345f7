"""The one list of rungs; the command line, tests, docs and reports all read it."""

from typing import Final

from gspn2bench.kernels import r01_line_launch, r07_gspn2
from gspn2bench.kernels.contract import Rung

LADDER: Final[dict[str, Rung]] = {rung.id: rung for rung in (r01_line_launch.RUNG, r07_gspn2.RUNG)}
"""Rungs by id, in the order of the paper."""
