"""Inference of ``GSPN2Attention`` on a GPU with little host time: three launches, prepared once.

One product writes the planes of x, lam, u and the logits; one launch scans them; one product
projects back. Everything that depends neither on addresses nor on weights is computed once per kind
of input. A call then checks nothing again, makes no views of planes, and dispatches no operators
but torch's products.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn.functional import linear

from gspn2bench.nn.check import Size
from gspn2bench.nn.folded_weights import Folded
from gspn2bench.ops import gpu
from gspn2bench.ops.check import ALL
from gspn2bench.ops.expand import on_gpu as expand_on_gpu
from gspn2bench.ops.planes import Settings, as_images
from gspn2bench.ops.plans import Options, Plan, plan_of
from gspn2bench.ops.prepared import keep, kind_of

if TYPE_CHECKING:
    from gspn2bench.nn.scans import FourScans

_plans: Final[dict[tuple[Any, ...], "InferencePlan | None"]] = {}


@dataclass(frozen=True)
class InferencePlan:
    """A prepared call of a module.

    Args:
        scan: the launch of the scans.
        sizes: planes of x, lam, u, the logits, and padding.
    """

    scan: Plan
    sizes: list[int]

    def __call__(self, tokens: Tensor, weights: Folded) -> Tensor:
        """Positions of all images, (N * L, C), from tokens, (N, L, C)."""
        from gspn2bench.kernels.four import FourOperands

        planes = linear(weights.before, tokens.flatten(0, 1))
        x, lam, u, w, _ = planes.split_with_sizes(self.sizes)
        y = torch.empty_like(lam)
        self.scan(FourOperands(x, lam, w, u=u, y=y, bias=weights.before_bias))
        return expand_on_gpu(y, weights.after, weights.after_bias)


def plan_inference(
    scans: "FourScans", tokens: Tensor, size: Size, weights: Folded
) -> InferencePlan | None:
    """The plan of a call, or None if it takes the usual way.

    It does where a plan would not see what happens to operators: under a dispatch mode (counting of
    operations, tracing) and under autocast. It also does on a CPU, and where the rung has a launch
    per direction.

    Args:
        scans: of the module. Its ``scan_takes_bias`` is true.
        tokens: (N, H * W, C).
        size: H and W.
        weights: kept for inference.
    """
    if (
        not runs_kernels(tokens)
        or torch._C._len_torch_dispatch_stack()
        or torch.is_autocast_enabled(tokens.device.type)
        or tokens.dtype != weights.before.dtype
    ):
        return None
    key = (*kind_of(tokens), size, scans.channels, scans.rung, scans.chunk)
    if key in _plans:
        return _plans[key]
    return keep(_plans, key, _make(scans, tokens, size, weights))


def runs_kernels(tokens: Tensor) -> bool:
    """Whether operators on this tensor run kernels."""
    return tokens.is_cuda


def _make(scans: "FourScans", tokens: Tensor, size: Size, weights: Folded) -> InferencePlan | None:
    batch, (height, width), channels = tokens.shape[0], size, scans.channels
    if tokens.numel() == 0:
        return None
    used = [channels, *scans.outputs]
    rows = weights.before.shape[0]
    planes = tokens.new_empty(sum(used), batch * height * width)
    chunk = None if scans.chunk is None else min(scans.chunk, max(height, width))
    settings = Settings(batch, height, width, chunk, scans.rung)
    x, lam, u, w = as_images(planes[:channels], planes[channels:], settings)
    rung = gpu.resolve(scans.rung, "forward", ALL, x, w, chunk)
    if not gpu.scans_four(rung):
        return None
    options = Options(chunk, rung, logits=True, with_h=False)
    scan = plan_of("forward", x, lam, w, u, options, weights.before_bias[: sum(used)])
    return InferencePlan(scan, [*used, rows - sum(used)])
