"""The line scan as operators of torch: on a GPU the kernels of a rung, on a CPU torch itself.

``scan.py`` has the functions to call, ``library.py`` makes them operators that torch.compile and
autograd know, ``check.py`` says what is wrong with an argument, ``cpu.py`` (on ``lines.py``) and
``gpu.py`` compute.
``weights.py`` makes weights of logits. Examples: docs/operator.md.
"""

from gspn2bench.ops.scan import line_scan, line_scan4
from gspn2bench.ops.weights import normalize_weights

__all__ = ["line_scan", "line_scan4", "normalize_weights"]
