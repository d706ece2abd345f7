"""When linear layers may be used by their weights, and how.

Consecutive linear maps are one linear map, so their weights can be multiplied with each other. That
bypasses the layers. It is allowed only where calling a layer would do nothing but multiply: hooks,
adapters (LoRA), parametrizations, quantized layers and sharded parameters must be honoured.
"""

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.modules import module as torch_module
from torch.utils.module_tracker import ModuleTracker

_PLAIN_TENSORS: Final = (nn.Parameter, Tensor, FakeTensor, FunctionalTensor)
"""Types of weights that are read as they are; quantized and distributed tensors are subclasses."""
_PLAIN_OR_NONE: Final = (*_PLAIN_TENSORS, type(None))
_LINEAR_FORWARD: Final = nn.Linear.forward


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is the same as calling ``kind.forward`` on it.

    It is not for a subclass or wrapper, a module with hooks, and one with a ``forward`` or a
    compiled call of its own. Hooks for all modules are left to ``plain_parameters``.
    """
    return (
        type(module) is kind
        and "forward" not in module.__dict__
        and module._compiled_call_impl is None
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
    )


def plain_parameters(layers: Iterable[nn.Module | None]) -> list[Tensor | None] | None:
    """Weight and bias of each layer, one after the other, if all are exactly ``nn.Linear``.

    Hooks for all modules count too, except those of torch's ``ModuleTracker``: they only record
    names (FlopCounterMode), and a measurement must not change the computation.

    Returns:
        The parameters; None if one layer is more than ``nn.Linear``, or a weight may not be read.
    """
    if nn.Linear.forward is not _LINEAR_FORWARD or _has_global_hooks():
        return None
    found: list[Tensor | None] = []
    for layer in layers:
        if layer is None or not is_plain(layer, nn.Linear):
            return None
        own = layer._parameters
        weight: Any = own.get("weight")
        bias: Any = own.get("bias")
        if weight is None:
            weight = layer.weight
        if bias is None:
            bias = layer.bias
        if type(weight) not in _PLAIN_TENSORS or type(bias) not in _PLAIN_OR_NONE:
            return None
        found += weight, bias
    return found


def are_plain_linear(*layers: nn.Module) -> bool:
    """Whether ``plain_parameters`` returns the parameters of these layers."""
    return plain_parameters(layers) is not None


def multiply_planes(planes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A weight, (K, C), times planes, (C, M), plus a bias, (K,) or None.

    torch copies a bias into the output first: two launches on a GPU.
    """
    if bias is None:
        return torch.mm(weight, planes)
    return torch.addmm(bias.unsqueeze(1), weight, planes)


def by_channel(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear map that writes its output channel by channel, the layout that scans read.

    Args:
        tokens: (N, L, C).
        weight: (K, C).
        bias: (K,), or None.

    Returns:
        Planes, (K, N * L).
    """
    return multiply_planes(to_planes(tokens), weight, bias)


def to_planes(tokens: Tensor) -> Tensor:
    """A view of tokens, (N, L, K), as planes, (K, N * L); a copy if no view exists."""
    return tokens.flatten(0, 1).t()


def project(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A layer's output, (N, L, K); in memory planes, (K, N, L), if the layer is plain."""
    if are_plain_linear(layer):
        assert isinstance(layer, nn.Linear)
        planes = by_channel(tokens, layer.weight, layer.bias)
        return planes.view(planes.shape[0], *tokens.shape[:2]).permute(1, 2, 0)
    output: Tensor = layer(tokens)
    return output


def _has_global_hooks() -> bool:
    if not (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ):
        return False
    for hooks in (
        torch_module._global_forward_hooks,
        torch_module._global_forward_pre_hooks,
        torch_module._global_backward_hooks,
        torch_module._global_backward_pre_hooks,
    ):
        for hook in hooks.values():
            if not isinstance(getattr(hook, "__self__", None), ModuleTracker):
                return True
    return False
