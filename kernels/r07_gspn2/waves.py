"""Which images of r07's backward with shared weights run as clusters, and which as two launches.

A GPU holds a number of clusters at once: a wave. If a few images are left after whole waves, their
clusters would start when the others end, and would take more than half of the time of a full wave.
They run as two launches instead, at the same time as the clusters, on multiprocessors that no
cluster can use.
"""

from functools import cache
from typing import Final

import torch

from gspn2bench.kernels.cluster import clusters_available
from gspn2bench.kernels.jit import word_type
from gspn2bench.kernels.r07_gspn2 import section
from gspn2bench.kernels.r07_gspn2.backward import build_backward
from gspn2bench.kernels.r07_gspn2.configuration import Config
from gspn2bench.kernels.r07_gspn2.section import Layout
from gspn2bench.problem import ScanProblem

MIN_BLOCKS: Final = 64
"""Blocks from which one launch pays. 64 blocks with lines of 1024 were measured to gain."""
MIN_LINE: Final = 512
"""Positions of a line from which one launch pays.

16 blocks with lines of 512 were measured to lose. More blocks were measured only with lines of
1024.
"""


def images_in_clusters(problem: ScanProblem) -> int:
    """Images that run as clusters in one launch; the images after them run as two launches."""
    blocks = problem.slices * problem.chunks
    if blocks < MIN_BLOCKS or problem.line < MIN_LINE or not section.exchanges(problem):
        return 0
    return images_of_waves(problem, resident_clusters(problem))


def images_of_waves(problem: ScanProblem, resident: int) -> int:
    """The images of full waves, or all images if those left fill at least half of a wave.

    Two launches take time in proportion to their images. A wave takes more than half of its time
    even with one cluster. On an H100, half a wave of figure 3's images takes 0.82 ms as clusters
    and 0.98 ms as two launches.

    Args:
        problem: backward with shared weights; a chunk of an image is a cluster.
        resident: clusters that the GPU holds at once; 0 if it has none.
    """
    clusters = problem.batch * problem.chunks
    if resident == 0:
        return 0
    if clusters <= resident:
        return problem.batch
    images = clusters // resident * resident // problem.chunks
    left = (problem.batch - images) * problem.chunks
    return problem.batch if 2 * left >= resident else images


def resident_clusters(problem: ScanProblem) -> int:
    """Clusters of r07's backward that the current GPU holds at once; 0 without a GPU that has them.

    The first call for a configuration compiles its kernel.

    Raises:
        ValueError: the driver cannot tell the number.
    """
    if not (clusters_available() and torch.cuda.is_available()):
        return 0
    return _resident_clusters(section.choose(problem), torch.cuda.current_device())


@cache
def _resident_clusters(config: Config, device: int) -> int:  # noqa: ARG001
    from gspn2bench.kernels import prebound_launch

    word = word_type(getattr(torch, config.dtype), config.word_bytes)
    value = word_type(getattr(torch, config.dtype))
    dtypes = (*[word] * 9, *[value] * 3, torch.float32, *[None] * 4)  # as in bind_one_launch
    return prebound_launch.resident_clusters(
        build_backward(config), dtypes, config.threads, Layout(config).shared_bytes, config.cluster
    )
