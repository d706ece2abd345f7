"""Lets torchvision be imported beside a torch without CUDA.

PyPI's torchvision is built for CUDA. Beside a torch for CPUs its library of operators does not
load, and torchvision fails at import, since it describes operators that are missing. So does much
of transformers, timm and peft, which import it. Its models need none of these operators, and
declaring them is enough.
"""

import importlib.util
from pathlib import Path

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def declare() -> None:
    """Declare the operators if torchvision is installed and its library does not load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    libraries = sorted(Path(spec.origin).parent.glob("_C*.so"))
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", SCHEMA)
