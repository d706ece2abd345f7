"""Weights computed from parameters, kept for inference until a parameter changes.

torch counts in-place changes of a tensor. Fused optimizers are not counted, so steps of all
optimizers are counted here. Changes through ``.data`` or NumPy, and by a replayed CUDA graph, are
not counted either, so weights are kept in eval mode only, and ``train()``, ``eval()``, a replaced
layer and a call with gradients discard them.

Weights are not kept where a parameter can change without a count, or where they would not be real
tensors: in a process group (FSDP and ZeRO gather parameters into the same memory, uncounted), in
memory shared between processes, as inference tensors, during tracing and compilation, inside
transforms of torch.func, under a dispatch mode, and during the capture of a CUDA graph.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Tensors = tuple[Tensor | None, ...]


class _Entry(NamedTuple):
    key: tuple[Any, ...]
    tensors: Tensors
    held: list[Any]
    """Parameters and their memory. Neither an id nor an address is reused while they are held."""


class WeightCache:
    """The weights of one module. Several threads may use it; each entry is replaced as a whole."""

    def __init__(self) -> None:
        self._entry: _Entry | None = None
        self._valid = False
        self._captured: list[_Entry] = []

    def clear(self) -> None:
        """Compute the weights again in the next call."""
        self._valid = False

    def get(
        self, parameters: Sequence[Tensor | None], compute: Callable[[], Tensors]
    ) -> Tensors | None:
        """The weights, or None if they may not be kept and must be computed by the caller.

        A CUDA graph that is captured reads the weights kept at that time. They stay allocated as
        long as the cache, and do not follow later changes of the parameters.

        Args:
            parameters: of which the weights are a function.
            compute: returns the weights. It is called without gradients and without autocast; the
                results are cast to autocast's type if autocast is on.
        """
        if is_traced():
            return None
        key = _key(parameters)
        if key is None:
            self.clear()
            return None
        entry = self._entry
        if entry is not None and self._valid and entry.key == key:
            if key[0].type == "cuda" and torch.cuda.is_current_stream_capturing():
                self._keep_for_graph(entry)
            return entry.tensors
        return self._compute(key, parameters, compute)

    def _keep_for_graph(self, entry: _Entry) -> None:
        if not any(kept is entry for kept in self._captured):
            self._captured.append(entry)

    def _compute(
        self,
        key: tuple[Any, ...],
        parameters: Sequence[Tensor | None],
        compute: Callable[[], Tensors],
    ) -> Tensors | None:
        device, dtype = key[:2]
        if not _may_keep(parameters, device):
            return None
        _count_steps()
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            tensors = tuple(_cast(tensor, dtype) for tensor in compute())
        if any(type(tensor) not in (Tensor, nn.Parameter, type(None)) for tensor in tensors):
            return None
        if device.type == "cuda":
            # Other streams may read the new weights from here on, and have read the old ones.
            torch.cuda.synchronize(device)
        held = [(p, p.untyped_storage()) for p in parameters if p is not None]
        self._entry, self._valid = _Entry(key, tensors, held), True
        return tensors


class _Steps:
    """Steps of optimizers in this process since weights were first kept."""

    count = 0


@cache
def _count_steps() -> None:
    """Start to count. A compiled step needs none: its writes have versions."""

    def count(*_: Any) -> None:
        if not torch.compiler.is_compiling():
            _Steps.count += 1

    register_optimizer_step_post_hook(count)


def is_traced() -> bool:
    """Whether operations are recorded, in which case weights must be computed from parameters."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return True
    if not torch._C._len_torch_dispatch_stack():
        return False
    kinds = torch._C._TorchDispatchModeKey
    return any(
        torch._C._get_dispatch_mode(kind) is not None
        for kind in (kinds.PROXY, kinds.FAKE, kinds.FUNCTIONAL)
    )


def _key(parameters: Sequence[Tensor | None]) -> tuple[Any, ...] | None:
    """Device, autocast's type, and the identity and version of each parameter; None: keep nothing.

    Nothing is kept if gradients are needed, or a parameter is not a plain ``nn.Parameter``, as in
    functional_call and FSDP.
    """
    first = parameters[0]
    assert first is not None
    device = first.device
    if device.type not in ("cpu", "cuda"):
        return None
    grad = torch.is_grad_enabled()
    enabled = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if enabled else None
    key: list[Any] = [device, dtype, _Steps.count]
    try:
        for p in parameters:
            if p is None:
                key.append(None)
                continue
            if type(p) is not nn.Parameter or (grad and p.requires_grad):
                return None
            key += id(p), p._version, p.data_ptr(), p.dtype, p.device, p.stride()
    except RuntimeError:  # an inference tensor, which has no version
        return None
    return tuple(key)


def _may_keep(parameters: Sequence[Tensor | None], device: torch.device) -> bool:
    """Whether weights computed now are plain tensors that stay right until a version changes."""
    if (
        torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch.distributed.is_available() and torch.distributed.is_initialized())
    ):
        return False
    if device.type == "cuda":
        return not torch.cuda.is_current_stream_capturing()
    present = (p for p in parameters if p is not None)
    return not any(p.is_shared() for p in present)  # type: ignore[no-untyped-call]


def _cast(tensor: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    """The tensor in autocast's type; None: as it is. Autocast leaves float64."""
    if tensor is None or dtype is None or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)
