"""Train GSPN-2 blocks on the digits of scikit-learn: ``python -m gspn2bench.examples.digits``.

Patches of 2 x 2 pixels become 4 x 4 positions, which exchange information through line scans only.
"""

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gspn2bench.examples.common import build_parser, parse
from gspn2bench.examples.images import CLASSES, Images, accuracy, epoch
from gspn2bench.nn import GSPN2Attention, GSPNBlock


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


def train(model: nn.Module, images: Images, epochs: int, seed: int) -> Iterator[float]:
    """Train a model and yield the mean loss of each epoch.

    Args:
        model: on the same device as the images.
        images: training set, at least 64 images.
        epochs: number of passes over the training set.
        seed: for the order of the images and their affine maps.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=epochs * images.batches, pct_start=0.2
    )
    model.train()
    for _ in range(epochs):
        losses = []
        for pixels, digits in epoch(images, generator):
            loss = cross_entropy(model(pixels), digits, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        yield float(torch.stack(losses).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the loss of each epoch and the accuracy on the test set."""
    parser = build_parser("digits", "Train GSPN-2 blocks on the digits of scikit-learn.", 40)
    options, train_images, test_images = parse(parser, arguments)
    model = Classifier().to(options.device)
    start = time.perf_counter()
    for number, loss in enumerate(train(model, train_images, options.epochs, options.seed), 1):
        print(f"epoch {number:2}  loss {loss:.4f}", flush=True)
    seconds = time.perf_counter() - start
    print(f"test accuracy {100 * accuracy(model, test_images):.1f} %, trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
