"""Peers: what people would use instead of a rung, gated and measured as one (docs/baselines.md).

Each is a ``Rung`` in a file of its own, named like its id, and computes the same line scan.
Importing them imports torch, but none of the optional packages.
"""

from typing import Final

from gspn2bench.baselines.scans import jax_scan, r07_unfused, torch_compile, torch_loop
from gspn2bench.kernels.contract import Rung

SCANS: Final[dict[str, Rung]] = {
    peer.id: peer for peer in (torch_loop.PEER, torch_compile.PEER, jax_scan.PEER, r07_unfused.PEER)
}
"""Peers by id, in the order in which they are listed."""
