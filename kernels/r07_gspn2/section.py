"""The memory of r07's exchange between blocks, and which problems it fits: see exchange.py."""

from dataclasses import replace
from functools import cache
from typing import Final

from gspn2bench.kernels.cluster import MAX_SHARED_BYTES, clusters_available
from gspn2bench.kernels.r07_gspn2 import configuration
from gspn2bench.kernels.r07_gspn2.configuration import Config
from gspn2bench.problem import ScanProblem

CLUSTERS: Final = (1, 2, 4, 8)
"""Channels that a cluster sums in one launch."""
GROUPS: Final = 3
"""Groups of lines in a section."""
SECTION_BYTES: Final = 112 * 1024
"""Shared memory of a section, if a shorter ring allows it; the rest is L1 for loads in flight."""
PADDING: Final = 8
"""Values per row besides those of the section's columns."""


class Layout:
    """Sizes of a section: a block's memory for the columns that it sums, in values of 4 bytes.

    Args:
        config: of the kernel.
    """

    def __init__(self, config: Config) -> None:
        self.lanes = config.threads // config.cluster
        """Threads of each block that walk the section's columns."""
        self.columns = self.lanes * config.words * config.pack
        self.row = 2 * self.columns + PADDING
        """g and h of one channel."""
        self.line = config.cluster * self.row
        self.group = config.depth * self.line
        self.size = GROUPS * self.group
        """The whole section; an mbarrier of 8 bytes per group follows it."""
        self.shared_bytes = 4 * self.size + 8 * GROUPS
        """Dynamic shared memory of a block."""
        edges = 4 * 2 * 4 * (config.threads + 2)
        self.fits = self.shared_bytes + edges <= MAX_SHARED_BYTES


@cache
def choose(problem: ScanProblem) -> Config:
    """The configuration for backward with shared weights in one launch.

    A group of lines is a pass of the ring.
    """
    config = replace(configuration.choose(problem), cluster=problem.channels)
    while config.depth > 2 and Layout(config).shared_bytes > SECTION_BYTES:
        config = replace(config, depth=config.depth - 2)
    return config


def exchanges(problem: ScanProblem) -> bool:
    """Whether one launch can run backward with shared weights."""
    if problem.channels not in CLUSTERS or (problem.channels > 1 and not clusters_available()):
        return False
    return Layout(choose(problem)).fits
