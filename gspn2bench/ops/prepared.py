"""Calls on a GPU that are prepared once per kind of their tensors.

A plan is kept in a dictionary and found by the kinds of its tensors. It never changes after it is
made, so threads, streams and CUDA graphs can share it.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

MAX_PLANS: Final = 512
"""Plans kept of one kind of call. When there are more, all are dropped; kernels stay compiled, so
new ones are cheap."""
WORD_BYTES: Final = 8
"""Kernels load words of up to this size. A tensor at another address is copied."""

Plan = TypeVar("Plan")


def kind_of(tensor: Tensor) -> tuple[Any, ...]:
    """The part of a tensor that a plan depends on."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def keep(plans: dict[tuple[Any, ...], Plan], key: tuple[Any, ...], plan: Plan) -> Plan:
    """Add a plan to those that are kept, and return it."""
    if len(plans) >= MAX_PLANS:
        plans.clear()
    plans[key] = plan
    return plan


def launch_on(device: torch.device, launch: Callable[..., None], *operands: Any) -> None:
    """Launch on the current stream of a device.

    Args:
        device: of the operands.
        launch: takes the operands.
        operands: of the launch.
    """
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            launch(*operands)
    else:
        launch(*operands)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if kernels cannot load words from its address."""
    return tensor.clone() if tensor.data_ptr() % WORD_BYTES else tensor
