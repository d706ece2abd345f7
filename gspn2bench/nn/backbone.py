"""GSPN-2 Tiny, Small and Base: image classifiers of four stages.

Source of the sizes: arXiv 2512.07884: 24, 50 and 89 million parameters and 4.2, 9.2 and 14.2 G
MACs at 224 px, with C_proxy 2. Widths, depths, stem and downsampling are our choice: with them both
figures are within 5 %. The published accuracies belong to the paper's models, not to these.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn

from gspn2bench.nn.attention import GSPN2Attention
from gspn2bench.nn.block import GSPNBlock
from gspn2bench.nn.check import check_size
from gspn2bench.nn.state import reset_parameters
from gspn2bench.ops.checkpoints import KeepEvery


@dataclass(frozen=True)
class Config:
    """The sizes of a backbone.

    Args:
        width: channels of the first stage; each further stage has twice as many.
        depths: blocks per stage.
        proxy: C_proxy of every block.
        mlp_ratio: hidden channels of every MLP per channel.
    """

    width: int
    depths: tuple[int, ...]
    proxy: int = 2
    mlp_ratio: float = 4.0

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


TINY: Final = Config(96, (3, 3, 8, 2))
SMALL: Final = Config(96, (3, 3, 29, 2))
BASE: Final = Config(128, (3, 3, 22, 4))


class GSPN2Backbone(nn.Module):
    """Stages of blocks on smaller and smaller, wider and wider maps, then a linear classifier.

    The stem, two 3 x 3 convolutions of stride 2, reduces height and width to a quarter, rounded
    up. A 3 x 3 convolution of stride 2 halves them before each further stage. An image may have any
    height and width of at least 1.

    Args:
        config: the sizes.
        classes: outputs of the classifier.
        in_channels: channels of the images.
        chunk: of every scan, as for ``GSPN2Attention``.
        rung: the rung that computes on a GPU, by id, or "auto".
        checkpoint_lines: of every scan, as for ``GSPN2Attention``.
        bias: whether convolutions, linear layers and norms have a bias.
        device: of the parameters; None: torch's default.
        dtype: of the parameters; None: torch's default.

    Raises:
        ValueError: a size is below 1; the message names it.
    """

    def __init__(
        self,
        config: Config,
        *,
        classes: int = 1000,
        in_channels: int = 3,
        chunk: int | None = None,
        rung: str = "auto",
        checkpoint_lines: KeepEvery | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        scans: dict[str, Any] = {"chunk": chunk, "rung": rung, "checkpoint_lines": checkpoint_lines}
        for name, size in (("classes", classes), ("in_channels", in_channels)):
            check_size(name, size)
        check_size("width", config.width // 2)
        half = config.width // 2
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            _halve(in_channels, half, factory), nn.GELU(), _halve(half, config.width, factory)
        )
        widths = config.widths
        self.downs = nn.ModuleList(
            _halve(before, after, factory) for before, after in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    GSPNBlock(
                        GSPN2Attention(dim, config.proxy, **scans, **factory),
                        mlp_ratio=config.mlp_ratio,
                        **factory,
                    )
                    for _ in range(depth)
                )
            )
            for dim, depth in zip(widths, config.depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], **factory)
        self.head = nn.Linear(widths[-1], classes, **factory)

    def features(self, images: Tensor) -> list[Tensor]:
        """The output of each stage.

        Args:
            images: (N, in_channels, H, W); N may be 0.

        Returns:
            Per stage a map, (N, width * 2**stage, ceil(H / 4 / 2**stage), ceil(W / 4 / 2**stage)).

        Raises:
            ValueError: the images have the wrong shape; the message says what was expected.
        """
        shape = tuple(images.shape)
        if images.dim() != 4 or shape[1] != self.in_channels or 0 in shape[2:]:
            raise ValueError(
                f"images: shape {shape}, expected (N, {self.in_channels}, H, W), "
                "H and W of at least 1"
            )
        maps: list[Tensor] = []
        for stage, blocks in enumerate(self.stages):
            enter = self.downs[stage - 1] if stage else self.stem
            maps.append(blocks(enter(maps[-1] if stage else images)))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Class scores, (N, classes); images and errors as for ``features``."""
        pooled = self.features(images)[-1].mean((2, 3))
        scores: Tensor = self.head(self.norm(pooled))
        return scores

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for part in self.children():
            reset_parameters(part)


def gspn2_tiny(
    *,
    proxy: int = 2,
    classes: int = 1000,
    rung: str = "auto",
    checkpoint_lines: KeepEvery | None = None,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> GSPN2Backbone:
    """GSPN-2 Tiny: 24 M parameters and 4.2 G MACs at 224 px; arguments as ``GSPN2Backbone``."""
    return GSPN2Backbone(
        replace(TINY, proxy=proxy),
        classes=classes,
        rung=rung,
        checkpoint_lines=checkpoint_lines,
        bias=bias,
        device=device,
        dtype=dtype,
    )


def gspn2_small(
    *,
    proxy: int = 2,
    classes: int = 1000,
    rung: str = "auto",
    checkpoint_lines: KeepEvery | None = None,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> GSPN2Backbone:
    """GSPN-2 Small: 50 M parameters and 9.2 G MACs at 224 px; arguments as ``GSPN2Backbone``."""
    return GSPN2Backbone(
        replace(SMALL, proxy=proxy),
        classes=classes,
        rung=rung,
        checkpoint_lines=checkpoint_lines,
        bias=bias,
        device=device,
        dtype=dtype,
    )


def gspn2_base(
    *,
    proxy: int = 2,
    classes: int = 1000,
    rung: str = "auto",
    checkpoint_lines: KeepEvery | None = None,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> GSPN2Backbone:
    """GSPN-2 Base: 89 M parameters and 14.2 G MACs at 224 px; arguments as ``GSPN2Backbone``."""
    return GSPN2Backbone(
        replace(BASE, proxy=proxy),
        classes=classes,
        rung=rung,
        checkpoint_lines=checkpoint_lines,
        bias=bias,
        device=device,
        dtype=dtype,
    )


def _halve(before: int, after: int, factory: dict[str, Any]) -> nn.Conv2d:
    """A convolution that halves height and width, rounded up."""
    return nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, **factory)
