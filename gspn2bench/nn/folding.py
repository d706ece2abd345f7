"""When linear layers may be used by their weights, and how.

Consecutive linear maps are one linear map, so their weights can be multiplied with each other. That
bypasses the layers. It is allowed only where calling a layer would do nothing but multiply: hooks,
adapters (LoRA), parametrizations, quantized layers and sharded parameters must be honoured.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.modules import module as torch_module
from torch.utils.module_tracker import ModuleTracker

_PLAIN_TENSORS: Final = (nn.Parameter, Tensor, FakeTensor, FunctionalTensor)
"""Types of weights that are read as they are; quantized and distributed tensors are subclasses."""
_LINEAR_FORWARD: Final = nn.Linear.forward


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module is the same as calling ``kind.forward`` on it.

    It is not for a subclass or wrapper, a module with hooks, and one with a ``forward`` or a
    compiled call of its own. Hooks for all modules are left to ``are_plain_linear``.
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


def are_plain_linear(*layers: nn.Module) -> bool:
    """Whether all layers are exactly ``nn.Linear``, with weights that may be read.

    Hooks for all modules count too, except those of torch's ``ModuleTracker``: they only record
    names (FlopCounterMode), and a measurement must not change the computation.
    """
    if nn.Linear.forward is not _LINEAR_FORWARD or _has_global_hooks():
        return False
    for layer in layers:
        if not is_plain(layer, nn.Linear):
            return False
        for parameter in layer._parameters.values():
            if parameter is not None and type(parameter) not in _PLAIN_TENSORS:
                return False
    return True


def by_channel(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear map that writes its output channel by channel, the layout that scans read.

    Args:
        tokens: (N, L, C).
        weight: (K, C).
        bias: (K,), or None.

    Returns:
        Tokens, (N, L, K): a view of planes, (K, N, L).
    """
    columns = tokens.flatten(0, 1).t()
    if bias is None:
        planes = torch.mm(weight, columns)
    else:
        planes = torch.addmm(bias[:, None], weight, columns)
    return planes.view(weight.shape[0], *tokens.shape[:2]).permute(1, 2, 0)


def project(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A layer's output; channel by channel in memory if the layer is a plain nn.Linear."""
    if are_plain_linear(layer):
        assert isinstance(layer, nn.Linear)
        return by_channel(tokens, layer.weight, layer.bias)
    output: Tensor = layer(tokens)
    return output


def add_bias(bias: Tensor | None, weight: Tensor, inner: Tensor | None) -> Tensor | None:
    """The bias of two consecutive linear maps, the second of which has this weight and bias.

    Args:
        bias: of the second, (K,), or None.
        weight: of the second, (K, C).
        inner: bias of the first, (C,), or None.
    """
    if inner is None:
        return bias
    return torch.mv(weight, inner) if bias is None else torch.addmv(bias, weight, inner)


def _has_global_hooks() -> bool:
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
