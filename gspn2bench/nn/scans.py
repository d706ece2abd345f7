"""Four scans of one input, and the linear layers that produce lam, u and the weights."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from gspn2bench.nn.check import Size, check_size
from gspn2bench.nn.folded_weights import stack_maps
from gspn2bench.nn.folding import are_plain_linear, by_channel, plain_parameters, to_planes
from gspn2bench.nn.state import convert_to_version_2, reset_parameters
from gspn2bench.nn.weight_cache import WeightCache
from gspn2bench.ops import line_scan4
from gspn2bench.ops.check import check_keep_every
from gspn2bench.ops.checkpoints import KeepEvery
from gspn2bench.problem import DIRECTIONS


class FourScans(nn.Module):
    """Four scans of x. Linear layers compute lam, u and weights from features, and merge the scans.

    lam and u are 1 plus a linear map. The 1 is not a parameter, so a scan passes its input on
    whatever the initialization of the layers: zero biases and small weights included.

    Args:
        channels: C, of x.
        features: F, of the features.
        shared: whether the channels share their weights.
        chunk: lines after which h restarts at 0 (GSPN-local), at least 1; None: never.
        rung: the rung that computes on a GPU, by id, or "auto": the fastest one for the size of
            the map.
        checkpoint_lines: K, to keep h of every K-th line for backward and recompute the others, as
            ``keep_every`` of ``line_scan4``, or "auto"; None: h is kept.
        bias: whether the linear layers have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size or checkpoint_lines is below 1.
    """

    _version = 2

    scan4 = staticmethod(line_scan4)
    """Computes the scans; a function with the same arguments can replace it."""

    checkpoint_lines: KeepEvery | None = None  # of modules pickled before it existed

    kept: WeightCache
    """Weights that ``GSPN2Attention`` computes from the parameters; not part of the state."""

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        shared: bool,
        chunk: int | None,
        rung: str,
        checkpoint_lines: KeepEvery | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kept = WeightCache()
        check_size("chunk", 1 if chunk is None else chunk)
        check_keep_every(checkpoint_lines, "checkpoint_lines")
        self.channels, self.shared, self.chunk, self.rung = channels, shared, chunk, rung
        self.checkpoint_lines = checkpoint_lines
        directions = len(DIRECTIONS)
        sets = 1 if shared else channels
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.lam_delta = nn.Linear(features, directions * channels, **factory)
        self.u_delta = nn.Linear(features, directions * channels, **factory)
        self.weights = nn.Linear(features, directions * 3 * sets, **factory)
        self.merge = nn.Linear(directions * channels, channels, **factory)
        self._start_at_one()

    def forward(self, x: Tensor, features: Tensor, size: Size) -> Tensor:
        """Merged scans.

        Args:
            x: tokens, (N, H * W, C).
            features: tokens, (N, H * W, F).
            size: H and W.

        Returns:
            Tokens, (N, H * W, C).
        """
        maps = plain_parameters(self.maps)
        if maps is None:
            lam = to_planes(1 + self.lam_delta(features))
            u = to_planes(1 + self.u_delta(features))
            logits = to_planes(self.weights(features))
        else:
            planes = by_channel(features, *stack_maps(maps))
            lam, u, logits = planes.split_with_sizes(self.outputs)
        scanned = self.scan(to_planes(x), lam, u, logits, x.shape[0], size)
        if not are_plain_linear(self.merge):
            scanned = scanned.view(*x.shape[:2], scanned.shape[1])
        merged: Tensor = self.merge(scanned)
        return merged.view(x.shape)

    @property
    def maps(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The layers that compute lam - 1, u - 1 and the logits of the weights."""
        return self.lam_delta, self.u_delta, self.weights

    @property
    def outputs(self) -> list[int]:
        """Output channels of each of the ``maps``."""
        directions = len(DIRECTIONS)
        own = directions * self.channels
        return [own, own, directions * 3 * (1 if self.shared else self.channels)]

    @property
    def scan_takes_bias(self) -> bool:
        """Whether ``scan`` can add a bias: for inference, without a replaced ``scan4``."""
        return (
            self.scan4 is line_scan4
            and not torch.is_grad_enabled()
            and torch._C._functorch.peek_interpreter_stack() is None
        )

    def scan(
        self,
        x: Tensor,
        lam: Tensor,
        u: Tensor,
        logits: Tensor,
        batch: int,
        size: Size,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The four u h, side by side. The scan reads the planes as they are in memory.

        Args:
            x: planes, (C, N * H * W).
            lam: planes, (4 C, N * H * W).
            u: planes, like lam.
            logits: planes, (12, N * H * W) or (12 C, N * H * W).
            batch: N.
            size: H and W.
            bias: of x, lam, u and the logits, see ``line_scan4``; None: they have theirs already.

        Returns:
            Positions of all images, (N * H * W, 4 C), channel by channel in memory. A product that
            reads them in this order is faster than one that reads 4 C numbers at a time.
        """
        channels = self.channels
        height, width = size
        lam = lam.view(4, channels, batch, height, width).transpose(1, 2)
        u = u.view(4, channels, batch, height, width).transpose(1, 2)
        if self.shared:
            logits = logits.view(4, 3, batch, height, width)
        else:
            logits = logits.view(4, 3, channels, batch, height, width).transpose(2, 3)
        image = x.view(channels, batch, height, width).transpose(0, 1)
        chunk = None if self.chunk is None else self._chunk(self.chunk, size)
        options: dict[str, Any] = {"chunk": chunk, "rung": self.rung, "logits": True}
        if bias is not None:
            options["bias"] = bias
        if self.checkpoint_lines is not None:
            options["keep_every"] = self.checkpoint_lines
        scanned = self.scan4(image, lam, logits, u=u, **options)
        return scanned.transpose(1, 2).reshape(4 * channels, batch * height * width).t()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; discard weights kept for inference."""
        self.kept.clear()
        return super().train(mode)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for layer in (*self.maps, self.merge):
            reset_parameters(layer)
        self._start_at_one()

    def extra_repr(self) -> str:
        """The arguments."""
        lines = self.checkpoint_lines
        return f"{self.channels}, shared={self.shared}, chunk={self.chunk}, rung={self.rung!r}" + (
            "" if lines is None else f", checkpoint_lines={lines!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):  # an adapter, which may change the weight that it wraps
            self.kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "kept"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.kept = WeightCache()

    def _start_at_one(self) -> None:
        """Zero the biases of lam - 1 and u - 1."""
        for layer in (self.lam_delta, self.u_delta):
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)

    @staticmethod
    def _chunk(chunk: int, size: Size) -> int:
        """The chunk, at most the longer of H and W; without a comparison of symbolic sizes."""
        longest = torch.sym_max(torch.sym_max(*size), 1)  # type: ignore[no-untyped-call]
        bounded: int = torch.sym_min(chunk, longest)  # type: ignore[no-untyped-call]
        return bounded

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        convert_to_version_2(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)
