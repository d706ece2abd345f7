"""Line scans in place of attention: every position reaches every other.

Source: arXiv 2501.12381, section 3 (GSPN-1); arXiv 2512.07884, section 3 (GSPN-2). The maps that
produce lam, u and the weights are our choice, and so is lam = u = 1 plus a linear map.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gspn2bench.nn.check import Size, check_size
from gspn2bench.nn.folded_weights import Chained, Folded, Parameters, chain, fold
from gspn2bench.nn.folding import by_channel, is_plain, plain_parameters, project
from gspn2bench.nn.inference_plan import plan_inference
from gspn2bench.nn.layout import Grid, TokenMixer, check_grid
from gspn2bench.nn.scans import FourScans
from gspn2bench.nn.state import reset_parameters
from gspn2bench.nn.training import mix_composed, mix_for_training, needs_training
from gspn2bench.ops import line_scan4
from gspn2bench.ops.checkpoints import KeepEvery
from gspn2bench.ops.expand import expand

__all__ = ["FOLDED", "FourScans", "GSPN1Attention", "GSPN2Attention"]

FEW_POSITIONS: Final = 65_536
"""Positions of all images up to which the projections are folded at any C_proxy, in 16-bit types.

Each product is then short, and two launches fewer count more than the multiply-adds. Measured with
640 channels and C_proxy 80: 28.9 against 33.2 us at 4,096 positions, 331 against 330 at 65,536, and
7.6 against 5.5 ms at 1,048,576 (docs/notes.md)."""

FOLDED: Final = 8
"""C_proxy up to which the projections are folded into the maps next to them.

A product with so few columns takes as long as reading the tokens, and one with 9 C_proxy + 12
columns takes no longer. Above, two products before the scans and two after them take fewer
multiply-accumulates than one and one.
"""


def _few_positions(tokens: Tensor) -> bool:
    """Whether the products of an input are short enough to be folded at any C_proxy."""
    return tokens.element_size() == 2 and tokens.shape[0] * tokens.shape[1] <= FEW_POSITIONS


class GSPN1Attention(TokenMixer):
    """Four scans of all channels, each channel with its own weights.

    Args:
        dim: channels, C.
        reduced: features that lam, u and the weights are computed from; None: a quarter of the
            channels, our choice.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: the rung that computes on a GPU, by id, or "auto": the fastest one for the size of
            the map.
        grid: H and W of tokens that come without ``size``, or "square" if they are always those of
            a square; None: ``size`` is required.
        checkpoint_lines: K, to keep h of every K-th line for backward and recompute the others, as
            ``keep_every`` of ``line_scan4``, or "auto"; None: h is kept.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1, or grid is invalid; the message names it.
    """

    def __init__(
        self,
        dim: int,
        reduced: int | None = None,
        *,
        chunk: int | None = None,
        rung: str = "auto",
        grid: Grid | None = None,
        checkpoint_lines: KeepEvery | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        reduced = max(1, dim // 4) if reduced is None else reduced
        check_size("dim", dim)
        check_size("reduced", reduced)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        scans: dict[str, Any] = {"chunk": chunk, "rung": rung, "checkpoint_lines": checkpoint_lines}
        self.dim = dim
        self.reduced = reduced
        self.grid = check_grid(grid)
        self.reduce = nn.Linear(dim, reduced, **factory)
        self.scans = FourScans(dim, reduced, shared=False, **scans, **factory)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        mixed: Tensor = self.scans(tokens, self.reduce(tokens), size)
        return mixed

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        reset_parameters(self.reduce)
        reset_parameters(self.scans)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, reduced={self.reduced}, grid={self.grid!r}"


class GSPN2Attention(TokenMixer):
    """Four scans of a few proxy channels, which share their weights.

    A 1 x 1 projection to C_proxy channels, which are scanned, and from which lam, u and the weights
    are computed; a learned merge of the four directions; a 1 x 1 projection back.

    Args:
        dim: channels, C.
        proxy: C_proxy, the number of channels that are scanned.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: the rung that computes on a GPU, by id, or "auto": the fastest one for the size of
            the map.
        grid: as for ``GSPN1Attention``.
        checkpoint_lines: as for ``GSPN1Attention``.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1, or grid is invalid; the message names it.
    """

    def __init__(
        self,
        dim: int,
        proxy: int = 2,
        *,
        chunk: int | None = None,
        rung: str = "auto",
        grid: Grid | None = None,
        checkpoint_lines: KeepEvery | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_size("dim", dim)
        check_size("proxy", proxy)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        scans: dict[str, Any] = {"chunk": chunk, "rung": rung, "checkpoint_lines": checkpoint_lines}
        self.dim = dim
        self.proxy = proxy
        self.grid = check_grid(grid)
        self.down = nn.Linear(dim, proxy, **factory)
        self.scans = FourScans(proxy, proxy, shared=True, **scans, **factory)
        self.up = nn.Linear(proxy, dim, **factory)

    def mix(self, tokens: Tensor, size: Size) -> Tensor:
        """Tokens to tokens, (N, H * W, C)."""
        parameters = self._plain_parameters()
        if parameters is None:
            proxy = project(self.down, tokens)
            expanded: Tensor = self.up(self.scans(proxy, proxy, size))
            return expanded
        scans: FourScans = self._modules["scans"]  # type: ignore[assignment]
        if scans.scan4 is line_scan4 and needs_training(tokens, parameters):
            scans.kept.clear()
            if scans.checkpoint_lines is None:
                return mix_for_training(scans, tokens, size, parameters)
            return mix_composed(scans, tokens, size, parameters).view(tokens.shape)
        kept = None if self.training else scans.kept.get(parameters, lambda: self._keep(parameters))
        if self.proxy <= FOLDED or (kept is not None and _few_positions(tokens)):
            folded = fold(parameters) if kept is None else Folded._make(kept[:4])
            mixed = self._mix_folded(scans, tokens, size, folded, kept is not None)
        else:
            chained = None if kept is None else Chained._make(kept[4:])
            mixed = self._mix_chained(scans, tokens, size, parameters, chained)
        return mixed.view(tokens.shape)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for part in (self.down, self.scans, self.up):
            reset_parameters(part)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.dim}, proxy={self.proxy}, grid={self.grid!r}"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        scans = self._modules.get("scans")
        if isinstance(value, nn.Module) and isinstance(scans, FourScans):
            scans.kept.clear()

    def _folds(self) -> bool:
        """Whether the layers are used by their weights, not called."""
        return self._plain_parameters() is not None

    def _plain_parameters(self) -> Parameters | None:
        """Weight and bias of each layer, if calling the layers would only multiply by them."""
        parts = self._modules  # without the search of nn.Module.__getattr__
        scans = parts.get("scans")
        if scans is None or not is_plain(scans, FourScans):
            return None
        inner = scans._modules
        return plain_parameters(
            (
                parts.get("down"),
                inner.get("lam_delta"),
                inner.get("u_delta"),
                inner.get("weights"),
                inner.get("merge"),
                parts.get("up"),
            )
        )

    def _keep(self, parameters: Parameters) -> tuple[Tensor | None, ...]:
        """The weights that are kept for inference: of both forms if either may be used.

        Parameters are copied: a captured graph would else follow some of them, but not the products
        of others.
        """
        folded = fold(parameters)
        weights = folded if self.proxy <= FOLDED else (*folded, *chain(parameters))
        return tuple(w.clone() if isinstance(w, nn.Parameter) else w for w in weights)

    def _mix_folded(
        self, scans: FourScans, tokens: Tensor, size: Size, weights: Folded, kept: bool
    ) -> Tensor:
        """``mix`` with two products: one before the scans, one after."""
        inference = kept and scans.scan_takes_bias
        if inference:
            plan = plan_inference(scans, tokens, size, weights)
            if plan is not None:
                return plan(tokens, weights)
        planes = by_channel(tokens, weights.before, None if inference else weights.before_bias)
        sizes = [self.proxy, *scans.outputs]
        x, lam, u, logits, _ = planes.split_with_sizes([*sizes, planes.shape[0] - sum(sizes)])
        bias = weights.before_bias[: sum(sizes)] if inference else None
        scanned = scans.scan(x, lam, u, logits, tokens.shape[0], size, bias)
        if inference:
            return expand(scanned.t(), weights.after, weights.after_bias)
        return linear(scanned, weights.after, weights.after_bias)

    def _mix_chained(
        self,
        scans: FourScans,
        tokens: Tensor,
        size: Size,
        parameters: Parameters,
        weights: Chained | None,
    ) -> Tensor:
        """``mix`` with two products before the scans, merge and projection after."""
        if weights is None:
            return mix_composed(scans, tokens, size, parameters)
        features = linear(tokens.flatten(0, 1), weights.first, weights.first_bias)
        planes = torch.mm(weights.second, features.t())
        x, lam, u, logits = planes.split_with_sizes([self.proxy, *scans.outputs])
        merge, merge_bias, up, up_bias = weights[3:]
        scanned = scans.scan(x, lam, u, logits, tokens.shape[0], size)
        return linear(linear(scanned, merge, merge_bias), up, up_bias)
