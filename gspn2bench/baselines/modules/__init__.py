"""Modules of torch that sweeps run beside the rungs (docs/baselines.md).

``contract.py`` says what a module is to a sweep, ``catalogue.py`` lists them, ``reference.py`` has
the float64 figures that they are held to.
"""

from gspn2bench.baselines.modules.catalogue import MODULES
from gspn2bench.baselines.modules.contract import Module

__all__ = ["MODULES", "Module"]
