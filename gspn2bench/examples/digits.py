"""Train GSPN-2 blocks on the digits of scikit-learn: ``python -m gspn2bench.examples.digits``.

scikit-learn includes 1797 images of 8 x 8 pixels; a quarter of them is the test set. Patches of
2 x 2 pixels become 4 x 4 positions, which exchange information through line scans only. All random
numbers are drawn on the CPU, so a GPU gets the same data in the same order.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from gspn2bench.nn import GSPN2Attention, GSPNBlock

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


class Classifier(nn.Module):
    """A classifier: patches, GSPN-2 blocks, the mean over positions, a linear layer.

    Args:
        dim: channels.
        proxy: C_proxy.
        depth: number of blocks.
    """

    def __init__(self, dim: int = 96, proxy: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        blocks = (GSPNBlock(GSPN2Attention(dim, proxy), mlp_ratio=2) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores of the digits, (N, 10), for images, (N, 1, 8, 8)."""
        scores: Tensor = self.head(self.norm(self.blocks(self.embed(pixels)).mean((2, 3))))
        return scores


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


def train(model: nn.Module, images: Images, epochs: int, seed: int) -> Iterator[float]:
    """Train a model and yield the mean loss of each epoch.

    Args:
        model: on the same device as the images.
        images: training set, at least 64 images.
        epochs: number of passes over the training set.
        seed: for the order of the images and their affine maps.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = len(images.digits) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=epochs * steps, pct_start=0.2
    )
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images.digits), generator=generator)
        losses = []
        for batch in order[: steps * BATCH].view(steps, BATCH).to(images.digits.device):
            scores = model(_warped(images.pixels[batch], generator))
            loss = cross_entropy(scores, images.digits[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        yield float(torch.stack(losses).mean())


def accuracy(model: nn.Module, images: Images) -> float:
    """The share of images, 0 to 1, whose digit has the highest score."""
    model.eval()
    with torch.inference_mode():
        right = model(images.pixels).argmax(1) == images.digits
    return float(right.float().mean())


def _warped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, rotate, shear and scale each image by a small random amount."""
    noise = WARP * torch.randn(len(pixels), 2, 3, generator=generator)
    maps = (torch.eye(2, 3) + noise).to(pixels.device)
    grid = affine_grid(maps, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, align_corners=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the loss of each epoch and the accuracy on the test set."""
    parser = argparse.ArgumentParser(prog="python -m gspn2bench.examples.digits")
    parser.description = "Train GSPN-2 blocks on the digits of scikit-learn."
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=40, help="1 or more (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"argument --epochs: {options.epochs} is below 1")
    if options.seed < 0:
        parser.error(f"argument --seed: {options.seed} is below 0")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: cuda can't be used; `gspn2bench doctor` says why")
    try:
        train_images, test_images = (images.to(options.device) for images in load())
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is missing: pip install scikit-learn")

    torch.manual_seed(options.seed)
    model = Classifier().to(options.device)
    start = time.perf_counter()
    for epoch, loss in enumerate(train(model, train_images, options.epochs, options.seed), 1):
        print(f"epoch {epoch:2}  loss {loss:.4f}", flush=True)
    seconds = time.perf_counter() - start
    print(f"test accuracy {100 * accuracy(model, test_images):.1f} %, trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
