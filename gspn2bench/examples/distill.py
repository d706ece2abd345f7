"""From softmax attention to GSPN-2 by distillation: ``python -m gspn2bench.examples.distill``.

A small vision transformer, with a class token, is trained on the digits of scikit-learn with
softmax attention. Its attention is replaced in one line, which loses nearly all of its accuracy.
Two stages bring it back. Block by block, the new modules learn to make each block compute what it
computed before. End to end, the whole model learns the scores of the original and the digits.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss

from gspn2bench.examples.chart import Line, Panel, draw
from gspn2bench.examples.common import build_parser, parse
from gspn2bench.examples.digits import train
from gspn2bench.examples.images import CLASSES, Images, accuracy, epoch
from gspn2bench.nn import replace_attention

SIDE: Final = 4
"""Patches of 2 x 2 pixels per row and column."""
PROXY: Final = 24
TEMPERATURE: Final = 2.0
"""Of the scores that are compared in distillation (Hinton et al., arXiv 1503.02531)."""


class Transformer(nn.Module):
    """A vision transformer: patches and a class token, encoder layers of torch, a linear layer.

    Args:
        dim: channels.
        depth: number of layers.
        heads: of the attention.
    """

    def __init__(self, dim: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + SIDE**2, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                2 * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, CLASSES)

    def tokens(self, pixels: Tensor) -> Tensor:
        """The input of the first layer, (N, 17, C), for images, (N, 1, 8, 8)."""
        patches = self.embed(pixels).flatten(2).transpose(1, 2)
        token = self.token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], 1) + self.position

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores of the digits, (N, 10), for images, (N, 1, 8, 8)."""
        tokens = self.tokens(pixels)
        for layer in self.layers:
            tokens = layer(tokens)
        scores: Tensor = self.head(self.norm(tokens[:, 0]))
        return scores


Loss = Callable[[Tensor, Tensor], Tensor]
"""The loss of a batch of pixels and digits."""


def block_by_block(teacher: Transformer, student: Transformer) -> Loss:
    """How far each layer is from the teacher's, which both get the teacher's input.

    Layers do not depend on each other here, so all learn at once. 1 is the error of a layer that
    passes its input on.
    """

    def loss(pixels: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            states = [teacher.tokens(pixels)]
            for layer in teacher.layers:
                states.append(layer(states[-1]))
        errors = [
            mse_loss(layer(before), after) / mse_loss(before, after)
            for layer, before, after in zip(student.layers, states[:-1], states[1:], strict=True)
        ]
        return torch.stack(errors).mean()

    return loss


def end_to_end(teacher: Transformer, student: Transformer) -> Loss:
    """Cross-entropy with the digits, and the divergence from the teacher's scores."""

    def loss(pixels: Tensor, digits: Tensor) -> Tensor:
        with torch.no_grad():
            target = log_softmax(teacher(pixels) / TEMPERATURE, 1)
        scores = student(pixels)
        softened = log_softmax(scores / TEMPERATURE, 1)
        divergence = kl_div(softened, target, log_target=True, reduction="batchmean")
        return cross_entropy(scores, digits, label_smoothing=0.1) + TEMPERATURE**2 * divergence

    return loss


class Epoch(NamedTuple):
    """The mean loss of an epoch, and the accuracy on the test set after it, 0 to 1."""

    loss: float
    accuracy: float


def distil(
    student: nn.Module,
    parameters: Sequence[nn.Parameter],
    loss_of: Loss,
    images: tuple[Images, Images],
    epochs: int,
    rate: float,
    seed: int,
) -> Iterator[Epoch]:
    """Minimize a loss over some parameters, epoch by epoch.

    Args:
        student: its accuracy is measured after each epoch.
        parameters: are changed.
        loss_of: the loss of a batch.
        images: training and test set.
        epochs: number of passes over the training set.
        rate: highest learning rate.
        seed: for the order of the images and their affine maps.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=epochs * images[0].batches
    )
    for _ in range(epochs):
        student.train()
        losses = []
        for pixels, digits in epoch(images[0], generator):
            loss = loss_of(pixels, digits)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        yield Epoch(float(torch.stack(losses).mean()), accuracy(student, images[1]))


def plot(before: float, blocks: list[Epoch], whole: list[Epoch]) -> str:
    """Accuracy and loss over both stages, as SVG."""
    epochs = range(1, len(blocks) + len(whole) + 1)
    ends = [(0.0, 100 * before), (float(len(epochs)), 100 * before)]
    stages = ((0, blocks, "block by block"), (len(blocks), whole, "end to end"))

    def lines(value: Callable[[Epoch], float]) -> list[Line]:
        return [
            Line(name, [(start + i, value(row)) for i, row in enumerate(rows, 1)])
            for start, rows, name in stages
        ]

    accuracies = Panel("test accuracy, %", lines(lambda row: 100 * row.accuracy))
    accuracies.lines.append(Line("softmax attention", ends, dashed=True))
    return draw([accuracies, Panel("loss", lines(lambda row: row.loss), logarithmic=True)], "epoch")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, replace, distil; print losses and accuracies."""
    parser = build_parser(
        "distill", "Distil softmax attention into GSPN-2 on the digits of scikit-learn.", 40,
        "of training and of the end-to-end stage; the blocks take a quarter; "
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a plot, as SVG")
    options, *sets = parse(parser, arguments)
    images = sets[0], sets[1]
    start = time.perf_counter()
    teacher = Transformer().to(options.device)
    for number, loss in enumerate(train(teacher, images[0], options.epochs, options.seed), 1):
        print(f"softmax attention  epoch {number:2}  loss {loss:.4f}", flush=True)
    before = accuracy(teacher, images[1])
    print(f"softmax attention: test accuracy {100 * before:.1f} %", flush=True)

    student = copy.deepcopy(teacher)
    replacement = replace_attention(student, proxy=PROXY, grid=(SIDE, SIDE), prefix=1)
    print(f"GSPN-2 in its place, not trained: {100 * accuracy(student, images[1]):.1f} %")
    new = [p for swap in replacement.swapped for p in swap.after.parameters()]
    stages = {
        "block by block": (new, block_by_block, max(1, options.epochs // 4), 3e-3),
        "end to end": (list(student.parameters()), end_to_end, options.epochs, 4e-3),
    }
    history = []
    for name, (parameters, loss_of, epochs, rate) in stages.items():
        loss_of_batch = loss_of(teacher, student)
        rows = []
        for row in distil(student, parameters, loss_of_batch, images, epochs, rate, options.seed):
            rows.append(row)
            print(
                f"{name:17}  epoch {len(rows):2}  loss {row.loss:.4f}"
                f"  test accuracy {100 * row.accuracy:.1f} %",
                flush=True,
            )
        history.append(rows)
    after = history[-1][-1].accuracy
    side = "above" if after > before else "below"
    print(
        f"GSPN-2: test accuracy {100 * after:.1f} %, {100 * abs(after - before):.1f} points {side} "
        f"softmax attention, in {time.perf_counter() - start:.0f} s"
    )
    if options.plot:
        options.plot.write_text(plot(before, *history))


if __name__ == "__main__":
    main()
