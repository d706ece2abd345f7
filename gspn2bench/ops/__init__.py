"""The line scan as torch operators: computed by a rung's kernels on a GPU, by torch on a CPU.

``scan.py`` has the public functions, ``library.py`` registers them as operators with gradients,
``double_backward.py`` has the second derivatives and ``flops.py`` the formulas of FlopCounterMode.
``check.py`` checks arguments, ``forward_mode.py`` refuses forward-mode differentiation. ``cpu.py``
(with ``lines.py``) and ``gpu.py`` compute. ``weights.py`` turns logits into weights.

``scaled.py`` is the operator of modules: four scans, logits and u in one. ``plans.py`` prepares its
launch once per kind of tensors. ``planes.py`` is the same on planes, for training. ``expand.py``
projects planes to tokens. ``checkpoints.py`` (with ``blocks.py``) is a scan that keeps some lines
of h and recomputes the others. ``choice.py`` chooses the rung of ``rung="auto"``. ``prepared.py``
has what prepared calls share, ``device.py`` the current device.

Importing this package registers the operators. A program that loads an exported model must import
it first. Examples: docs/operator.md.
"""

from gspn2bench.ops import flops  # noqa: F401  registers its formulas
from gspn2bench.ops.expand import expand
from gspn2bench.ops.scan import line_scan, line_scan4
from gspn2bench.ops.weights import normalize_weights

__all__ = ["expand", "line_scan", "line_scan4", "normalize_weights"]
