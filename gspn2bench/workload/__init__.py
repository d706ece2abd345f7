"""What one call does, as a trial needs to know it: some scans of a rung, or a module's run.

``base.py`` says what every workload has; ``scans.py`` and ``modules.py`` are the two kinds.
"""

from typing import Any

from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Rung
from gspn2bench.registry import Candidate
from gspn2bench.workload.base import Workload
from gspn2bench.workload.modules import ModuleRun
from gspn2bench.workload.scans import Scans


def workload_of(case: Case, subject: Candidate) -> Workload[Any]:
    """What a case asks of a rung, a peer or a module."""
    return Scans.of(case, subject) if isinstance(subject, Rung) else ModuleRun(case, subject)


__all__ = ["ModuleRun", "Scans", "Workload", "workload_of"]
