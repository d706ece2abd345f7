"""The digits that come with scikit-learn: 1797 images of 8 x 8 pixels, a quarter for testing.

All random numbers are drawn on the CPU, so a GPU gets the same data in the same order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

CLASSES: Final = 10
BATCH: Final = 64
WARP: Final = 0.05
"""Standard deviation of the random affine maps of the training images."""


@dataclass(frozen=True)
class Images:
    """Images, (N, 1, 8, 8) in [0, 1], and the digits they show, (N,)."""

    pixels: Tensor
    digits: Tensor

    def to(self, device: str) -> Self:
        """Copy the images to a device."""
        return type(self)(self.pixels.to(device), self.digits.to(device))

    @property
    def batches(self) -> int:
        """Batches per epoch."""
        return len(self.digits) // BATCH


def load() -> tuple[Images, Images]:
    """The training set and the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    split = train_test_split(pixels, digits, test_size=0.25, stratify=digits, random_state=0)
    train_pixels, test_pixels = (
        torch.tensor(part / 16, dtype=torch.float32).view(-1, 1, 8, 8) for part in split[:2]
    )
    train_digits, test_digits = (torch.tensor(part) for part in split[2:])
    return Images(train_pixels, train_digits), Images(test_pixels, test_digits)


def epoch(images: Images, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a training set of at least 64 images: warped pixels and digits of batches."""
    order = torch.randperm(len(images.digits), generator=generator)
    batches = order[: images.batches * BATCH].view(images.batches, BATCH)
    for batch in batches.to(images.digits.device):
        yield warp(images.pixels[batch], generator), images.digits[batch]


def warp(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, rotate, shear and scale each image by a small random amount."""
    noise = WARP * torch.randn(len(pixels), 2, 3, generator=generator)
    maps = (torch.eye(2, 3) + noise).to(pixels.device)
    grid = affine_grid(maps, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, align_corners=False)


def accuracy(model: nn.Module, images: Images) -> float:
    """The share of images, 0 to 1, whose digit has the highest score."""
    model.eval()
    with torch.inference_mode():
        right = model(images.pixels).argmax(1) == images.digits
    return float(right.float().mean())
