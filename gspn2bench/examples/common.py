"""The options of the examples."""

import argparse
from collections.abc import Sequence

import torch

from gspn2bench.examples.images import Images, load


def build_parser(
    module: str, description: str, epochs: int, of: str = ""
) -> argparse.ArgumentParser:
    """A parser with ``--device``, ``--epochs`` and ``--seed``.

    Args:
        module: name of the example.
        description: of the help.
        epochs: default.
        of: what is trained for so many epochs.
    """
    parser = argparse.ArgumentParser(prog=f"python -m gspn2bench.examples.{module}")
    parser.description = description
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--epochs", type=int, default=epochs, help=f"{of}1 or more (default: {epochs})"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default: 0)")
    return parser


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, Images, Images]:
    """The options, and the training and test set on their device. Exits if an option is invalid."""
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
    torch.set_num_threads(1)  # for tensors this small, threads cost more than they gain
    return options, train_images, test_images
