"""PyTorch modules that sweeps measure beside the rungs (docs/baselines.md).

``contract.py`` defines a module of a sweep, ``catalogue.py`` lists the modules, and
``reference.py`` computes their float64 references.
"""

from gspn2bench.baselines.modules.catalogue import MODULES
from gspn2bench.baselines.modules.contract import Module

__all__ = ["MODULES", "Module"]
