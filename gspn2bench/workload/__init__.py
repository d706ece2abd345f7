"""The work of one call: the scans of a rung, or the run of a module.

``base.py`` defines the interface; ``scans.py`` and ``modules.py`` implement it.
"""

from typing import Any

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Rung
from gspn2bench.registry import Candidate
from gspn2bench.workload.base import Workload
from gspn2bench.workload.modules import ModuleRun
from gspn2bench.workload.scans import Scans


def workload_of(case: Case, candidate: Candidate) -> Workload[Any]:
    """The workload of a case for a rung or a module."""
    return Scans.of(case, candidate) if isinstance(candidate, Rung) else ModuleRun(case, candidate)


__all__ = ["ModuleRun", "Scans", "Workload", "workload_of"]
