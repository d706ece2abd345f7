"""GSPN-2 Tiny, Small and Base: image classifiers of four stages.

Source of the sizes: arXiv 2512.07884: 24, 50 and 89 million parameters and 4.2, 9.2 and 14.2 G
MACs at 224 px, with C_proxy 2. Widths, depths, stem and downsampling are our choice, made so that
both come out within 5 %; the published accuracies are of the paper's models, not of these.
"""

from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor, nn

from gspn2bench.nn.attention import GSPN2Attention, check_size
from gspn2bench.nn.block import GSPNBlock


@dataclass(frozen=True)
class Config:
    """The sizes of a backbone.

    Args:
        width: channels of the first stage; each stage has twice as many as the one before.
        depths: blocks of each stage.
        proxy: C_proxy of every block.
        mlp_ratio: hidden channels of every MLP, in channels.
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
    """Stages of blocks on ever smaller and wider maps, then a linear classifier.

    The stem, two 3 x 3 convolutions of stride 2, makes maps of a quarter of the image's height and
    width, rounded up; a 3 x 3 convolution of stride 2 halves them before each further stage. An
    image may have any height and width.

    Args:
        config: the sizes.
        classes: outputs of the classifier.
        in_channels: of the images.
        chunk: of every scan, as ``GSPN2Attention``.
        rung: whose kernels run on a GPU, by id.

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
        rung: str = "r07",
    ) -> None:
        super().__init__()
        for name, size in (("classes", classes), ("in_channels", in_channels)):
            check_size(name, size)
        check_size("width", config.width // 2)
        half = config.width // 2
        self.in_channels = in_channels
        self.stem = nn.Sequential(_halve(in_channels, half), nn.GELU(), _halve(half, config.width))
        widths = config.widths
        self.downs = nn.ModuleList(map(_halve, widths[:-1], widths[1:]))
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    GSPNBlock(
                        GSPN2Attention(dim, config.proxy, chunk=chunk, rung=rung),
                        mlp_ratio=config.mlp_ratio,
                    )
                    for _ in range(depth)
                )
            )
            for dim, depth in zip(widths, config.depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps that each stage ends with.

        Args:
            images: (N, in_channels, H, W).

        Returns:
            A map a stage, (N, width * 2**stage, ceil(H / 4 / 2**stage), ceil(W / 4 / 2**stage)).

        Raises:
            ValueError: names the argument, what it is and what was expected.
        """
        shape = tuple(images.shape)
        if images.dim() != 4 or shape[1] != self.in_channels or 0 in shape:
            raise ValueError(
                f"images: shape {shape}, expected (N, {self.in_channels}, H, W), each at least 1"
            )
        maps: list[Tensor] = []
        for stage, blocks in enumerate(self.stages):
            enter = self.downs[stage - 1] if stage else self.stem
            maps.append(blocks(enter(maps[-1] if stage else images)))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Class scores, (N, classes); images and errors as ``features``."""
        pooled = self.features(images)[-1].mean((2, 3))
        scores: Tensor = self.head(self.norm(pooled))
        return scores


def gspn2_tiny(*, proxy: int = 2, classes: int = 1000, rung: str = "r07") -> GSPN2Backbone:
    """GSPN-2 Tiny: 24 M parameters and 4.2 G MACs at 224 px."""
    return _backbone(TINY, proxy, classes, rung)


def gspn2_small(*, proxy: int = 2, classes: int = 1000, rung: str = "r07") -> GSPN2Backbone:
    """GSPN-2 Small: 50 M parameters and 9.2 G MACs at 224 px."""
    return _backbone(SMALL, proxy, classes, rung)


def gspn2_base(*, proxy: int = 2, classes: int = 1000, rung: str = "r07") -> GSPN2Backbone:
    """GSPN-2 Base: 89 M parameters and 14.2 G MACs at 224 px."""
    return _backbone(BASE, proxy, classes, rung)


def _backbone(config: Config, proxy: int, classes: int, rung: str) -> GSPN2Backbone:
    return GSPN2Backbone(replace(config, proxy=proxy), classes=classes, rung=rung)


def _halve(before: int, after: int) -> nn.Conv2d:
    """A convolution to half the height and width, rounded up."""
    return nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
