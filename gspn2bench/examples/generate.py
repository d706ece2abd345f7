"""Draw digits with GSPN-2 in the place of attention: ``python -m gspn2bench.examples.generate``.

A small transformer over 4 x 4 patches learns a velocity field that moves noise to the digits of
scikit-learn, given the digit to draw (flow matching: Lipman et al., arXiv 2210.02747). Drawing
exaggerates the effect of the given digit (guidance without a classifier: Ho and Salimans, arXiv
2207.12598). A classifier, trained apart, then reads what was drawn. The same model with softmax
attention is trained beside it.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from gspn2bench.examples.chart import sheet
from gspn2bench.examples.common import build_parser, parse
from gspn2bench.examples.digits import Classifier
from gspn2bench.examples.digits import train as train_classifier
from gspn2bench.examples.images import CLASSES, Images, accuracy, epoch
from gspn2bench.nn import GSPN2Attention, GSPNBlock, SoftmaxAttention
from gspn2bench.nn.layout import TokenMixer

PATCH: Final = 2
FREQUENCIES: Final = 8
ANY: Final = CLASSES
"""The class of "no digit given"."""
DROPPED: Final = 0.1
"""Share of the training images whose digit is not given."""
GUIDANCE: Final = 2.0
"""Factor of the difference between the velocities with and without the digit."""
STEPS: Final = 16
EACH: Final = 20
"""Images that are drawn of each digit."""
CLASSIFIER_EPOCHS: Final = 30

ATTENTIONS: Final[dict[str, Callable[[int], TokenMixer]]] = {
    "GSPN-2": lambda dim: GSPN2Attention(dim, proxy=8),
    "softmax attention": lambda dim: SoftmaxAttention(dim, heads=4),
}


class Velocity(nn.Module):
    """The velocity of images on their way from noise to digits.

    Args:
        attention: builds the attention of a block, for a number of channels.
        dim: channels.
        depth: number of blocks.
    """

    def __init__(
        self, attention: Callable[[int], TokenMixer], dim: int = 64, depth: int = 3
    ) -> None:
        super().__init__()
        side = 8 // PATCH
        self.embed = nn.Conv2d(1, dim, PATCH, PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, dim, side, side))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.digit = nn.Embedding(CLASSES + 1, dim)
        self.blocks = nn.ModuleList(GSPNBlock(attention(dim), mlp_ratio=2) for _ in range(depth))
        self.conditions = nn.ModuleList(nn.Linear(dim, 2 * dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, PATCH**2)

    def forward(self, images: Tensor, times: Tensor, digits: Tensor) -> Tensor:
        """Velocities, (N, 1, 8, 8).

        Args:
            images: (N, 1, 8, 8).
            times: 0, noise, to 1, a digit; (N,).
            digits: 0 to 9, or ``ANY``; (N,).
        """
        powers = torch.arange(FREQUENCIES, device=times.device)
        angles = times[:, None] * (torch.pi / 4 * 2.0**powers)
        condition = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.digit(digits)
        planes = self.embed(images) + self.position
        for block, layer in zip(self.blocks, self.conditions, strict=True):
            scale, shift = layer(silu(condition))[:, :, None, None].chunk(2, 1)
            planes = block(planes * (1 + scale) + shift)
        patches = self.out(self.norm(planes.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        velocities: Tensor = pixel_shuffle(patches, PATCH)
        return velocities


def train(
    model: Velocity, mean: Velocity, images: Images, epochs: int, seed: int
) -> Iterator[float]:
    """Train a model, and yield the mean loss of each epoch.

    Args:
        model: on the same device as the images.
        mean: a copy of it; becomes a running mean, which draws better.
        images: training set, at least 64 images.
        epochs: number of passes over the training set.
        seed: for order, affine maps, times and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * images.batches
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1
    )
    step = 0
    for _ in range(epochs):
        losses = []
        for pixels, digits in epoch(images, generator):
            loss = _loss(model, 2 * pixels - 1, digits, generator)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
            step += 1
            keep = min(0.995, step / (step + 20))
            with torch.no_grad():
                for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 1 - keep)
        yield float(torch.stack(losses).mean())


def _loss(model: Velocity, images: Tensor, digits: Tensor, generator: torch.Generator) -> Tensor:
    """The squared error of the velocity at random times on straight lines from noise to images."""
    count, device = len(images), images.device
    noise = torch.randn(images.shape, generator=generator).to(device)
    times = torch.rand(count, generator=generator).to(device)
    given = (torch.rand(count, generator=generator) >= DROPPED).to(device)
    share = times.view(-1, 1, 1, 1)
    velocity: Tensor = model(share * images + (1 - share) * noise, times, digits.where(given, ANY))
    return (velocity - (images - noise)).square().mean()


@torch.no_grad()
def generate(model: nn.Module, digits: Tensor, seed: int) -> Tensor:
    """Draw digits, (N,): images, (N, 1, 8, 8) in [0, 1]. Heun's method, with guidance."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(len(digits), 1, 8, 8, generator=generator).to(digits.device)
    nothing = torch.full_like(digits, ANY)

    def velocity(images: Tensor, time: float) -> Tensor:
        times = torch.full((len(digits),), time, device=digits.device)
        free: Tensor = model(images, times, nothing)
        guided: Tensor = model(images, times, digits)
        return free + GUIDANCE * (guided - free)

    for step in range(STEPS):
        first = velocity(images, step / STEPS)
        second = velocity(images + first / STEPS, (step + 1) / STEPS)
        images = images + (first + second) / (2 * STEPS)
    return (images.clamp(-1, 1) + 1) / 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both models and a classifier; print losses, and the share of digits it recognizes."""
    parser = build_parser(
        "generate", "Draw digits with GSPN-2 in the place of attention.", 30, "of each model; "
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write samples, as PNG")
    options, train_images, test_images = parse(parser, arguments)
    start = time.perf_counter()
    classifier = Classifier().to(options.device)
    for _ in train_classifier(classifier, train_images, CLASSIFIER_EPOCHS, options.seed):
        pass
    print(f"classifier: test accuracy {100 * accuracy(classifier, test_images):.1f} %", flush=True)

    digits = torch.arange(CLASSES, device=options.device).repeat(EACH)
    samples = []
    for name, attention in ATTENTIONS.items():
        torch.manual_seed(options.seed)
        begin = time.perf_counter()
        model = Velocity(attention).to(options.device)
        mean = copy.deepcopy(model).eval()
        losses = train(model, mean, train_images, options.epochs, options.seed)
        for number, loss in enumerate(losses, 1):
            print(f"{name}  epoch {number:2}  loss {loss:.4f}", flush=True)
        seconds = time.perf_counter() - begin
        images = generate(mean, digits, options.seed)
        share = accuracy(classifier, Images(images, digits))
        print(
            f"{name}: {100 * share:.1f} % of {len(digits)} generated digits recognized, "
            f"trained in {seconds:.0f} s",
            flush=True,
        )
        samples.append(images[: 8 * CLASSES].view(8, CLASSES, 1, 8, 8))
    print(f"all in {time.perf_counter() - start:.0f} s")
    if options.sheet:
        blank = torch.full_like(samples[0][:, :1], 0.5)
        both = torch.cat([samples[0], blank, samples[1]], 1)
        options.sheet.write_bytes(sheet(both.flatten(0, 1), 2 * CLASSES + 1))


if __name__ == "__main__":
    main()
