"""Baseline scans in torch and jax, checked and measured like rungs (docs/baselines.md).

Each computes the same line scan and is a ``Rung`` in a file named after its id. Importing this
package imports torch, but no optional package.
"""

from typing import Final

from gspn2bench.baselines.scans import jax_scan, r07_unfused, torch_compile, torch_loop
from gspn2bench.kernels.contract import Rung

SCANS: Final[dict[str, Rung]] = {
    rung.id: rung for rung in (torch_loop.RUNG, torch_compile.RUNG, jax_scan.RUNG, r07_unfused.RUNG)
}
"""Baseline scans by id, in the order of ``gspn2bench list``."""
