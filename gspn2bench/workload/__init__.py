"""The work of one call: the scans of a rung, or the run of a module or of a network.

``base.py`` defines the interface; ``scans.py``, ``modules.py`` and ``networks.py`` implement it.
"""

from typing import Any

from gspn2bench.baselines.modules.networks import NETWORKS
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Rung
from gspn2bench.registry import Candidate
from gspn2bench.workload.base import Workload
from gspn2bench.workload.modules import ModuleRun
from gspn2bench.workload.networks import NetworkRun
from gspn2bench.workload.scans import Scans


def workload_of(case: Case, candidate: Candidate) -> Workload[Any]:
    """The workload of a case for a rung or a module."""
    if isinstance(candidate, Rung):
        return Scans.of(case, candidate)
    return (NetworkRun if case.part in NETWORKS else ModuleRun)(case, candidate)


__all__ = ["ModuleRun", "NetworkRun", "Scans", "Workload", "workload_of"]
