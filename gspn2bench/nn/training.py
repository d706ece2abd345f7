"""``GSPN2Attention`` for training as one node of autograd, with a backward written out by hand.

Recorded by autograd, the module is about 30 nodes in forward, and each costs host time twice. On
small maps a GPU waits for that. Here forward is 8 calls of torch and backward is 13.

    x       = down T^t + down_bias                   (C_proxy, P), from the tokens T, (P, C)
    planes  = maps x + maps_bias                     lam, u and the logits, (8 C_proxy + 12, P)
    scanned = u h                                    (4 C_proxy, P)
    merged  = scanned^t merge^t + merge_bias         (P, C_proxy)
    output  = merged up^t + up_bias                  (P, C)

P is the number of positions of all images. One matrix holds the weights of the maps, below four
identities. Its transpose times the gradients that the scan returns is the gradient of x: each
direction returns its own gradient of x, and the identities add them. The biases of the maps and of
``down`` have their gradients from one sum.

A backward that is differentiated itself (``create_graph``), batched or traced calls the composition
of torch's operators instead.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import Function
from torch.nn.functional import linear

from gspn2bench.nn.check import Size
from gspn2bench.nn.folded_weights import DIRECTIONS, Parameters, stack_maps
from gspn2bench.nn.folding import by_channel, multiply_planes
from gspn2bench.nn.scans import FourScans
from gspn2bench.nn.weight_cache import is_traced
from gspn2bench.ops.planes import LOGITS, Settings, scan_planes, scan_planes_backward

Gradients = list[Tensor | None]

MAX_CONSTANTS: Final = 64
"""Kinds of modules for which constants are kept."""

_PLAIN: Final = (nn.Parameter, Tensor)


def needs_training(tokens: Tensor, parameters: Parameters) -> bool:
    """Whether a call is one for ``mix_for_training``: plain tensors, eager mode, with gradients.

    Not under autocast, in which every product has its own type; not inside transforms of
    torch.func, and not where operations are traced, because these read the composition.
    """
    if not torch.is_grad_enabled():
        return False
    if not tokens.requires_grad:
        for parameter in parameters:
            if parameter is not None and parameter.requires_grad:
                break
        else:
            return False
    if type(tokens) not in _PLAIN or not (tokens.is_cuda or tokens.is_cpu):
        return False
    for parameter in parameters:
        if parameter is not None and type(parameter) not in _PLAIN:
            return False
    return (
        not torch.is_autocast_enabled(tokens.device.type)
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not is_traced()
    )


def mix_for_training(
    scans: FourScans, tokens: Tensor, size: Size, parameters: Parameters
) -> Tensor:
    """``GSPN2Attention.mix`` with two products before the scans and two after them, as one node.

    Args:
        scans: computes the four scans.
        tokens: (N, H * W, C).
        size: H and W.
        parameters: weight and bias of each layer, see ``folded_weights``.

    Returns:
        Tokens, (N, H * W, C).
    """
    height, width = size
    chunk = scans.chunk
    if chunk is not None:
        chunk = min(chunk, max(height, width, 1))
    settings = Settings(tokens.shape[0], height, width, chunk, scans.rung)
    output: Tensor = _Mix.apply(scans, settings, tokens, *parameters)  # type: ignore[no-untyped-call]
    return output


def mix_composed(scans: FourScans, tokens: Tensor, size: Size, parameters: Parameters) -> Tensor:
    """The same as ``mix_for_training``, recorded by autograd operation by operation.

    Returns:
        Tokens of all images, (N * H * W, C).
    """
    down, down_bias, *maps, merge, merge_bias, up, up_bias = parameters
    assert down is not None and merge is not None and up is not None  # noqa: PT018
    x = by_channel(tokens, down, down_bias)
    planes = multiply_planes(x, *stack_maps(maps))
    lam, u, logits = planes.split_with_sizes(scans.outputs)
    scanned = scans.scan(x, lam, u, logits, tokens.shape[0], size)
    return linear(linear(scanned, merge, merge_bias), up, up_bias)


class _Mix(Function):
    @staticmethod
    def forward(
        ctx: Any,
        scans: FourScans,
        settings: Settings,
        tokens: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        down, down_bias, lam, lam_bias, u, u_bias, logits, logits_bias = parameters[:8]
        merge, merge_bias, up, up_bias = parameters[8:]
        assert down is not None and merge is not None and up is not None  # noqa: PT018
        proxy = down.shape[0]
        rows = tokens.flatten(0, 1)
        identities, one = _constants(down)
        weights = torch.cat((identities, lam, u, logits))  # type: ignore[arg-type]
        bias = _stacked_bias((lam_bias, u_bias, logits_bias), one)
        x = multiply_planes(rows.t(), down, down_bias)
        _, maps = weights.split_with_sizes((DIRECTIONS * proxy, bias.shape[0]))
        planes = torch.addmm(bias.unsqueeze(1), maps, x)
        scanned, h = scan_planes(x, planes, settings)
        merged = _add_product(merge_bias, scanned.t(), merge.t())
        output = _add_product(up_bias, merged, up.t())
        ctx.scans, ctx.settings = scans, settings
        ctx.biases = down_bias, lam_bias, u_bias, logits_bias, merge_bias, up_bias
        ctx.versions = _versions(ctx.biases)
        layers = tokens, down, lam, u, logits, merge, up
        ctx.save_for_backward(*layers, weights, x, planes, h, scanned, merged)
        # Not a view for autograd, so it may be changed in place.
        return torch.ops.aten._unsafe_view.default(output, tokens.shape)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        compute = _gradients_again if _needs_composition(grad) else _gradients
        if torch.is_autocast_enabled(grad.device.type):  # it was not in forward
            with torch.autocast(grad.device.type, enabled=False):
                return None, None, *compute(ctx, grad)
        return None, None, *compute(ctx, grad)


def _needs_composition(grad: Tensor) -> bool:
    """Whether a backward is differentiated itself, batched (``is_grads_batched``) or traced."""
    return (
        torch.is_grad_enabled()
        or torch._C._functorch.is_legacy_batchedtensor(grad)
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or is_traced()
    )


def _gradients(ctx: Any, grad: Tensor) -> Gradients:
    """Gradients of tokens and parameters; None for those that are not needed."""
    tokens, down, *_, merge, up, weights, x, planes, h, scanned, merged = ctx.saved_tensors
    needs = ctx.needs_input_grad[2:]
    result: Gradients = [None] * len(needs)
    grad = grad.flatten(0, 1)
    if needs[11]:
        result[11] = torch.mm(grad.t(), merged)
    if needs[12]:
        result[12] = grad.sum(0)
    if not any(needs[:11]):
        return result
    grad = torch.mm(grad, up)
    if needs[9]:
        result[9] = torch.mm(grad.t(), scanned.t())
    if needs[10]:
        result[10] = grad.sum(0)
    if not any(needs[:9]):
        return result
    grad = torch.mm(merge.t(), grad.t())
    inputs = tokens, down, weights, x, planes, h
    result[:9] = _gradients_before(needs, ctx.settings, grad, *inputs)
    return result


def _gradients_before(
    needs: Sequence[bool],
    settings: Settings,
    grad: Tensor,
    tokens: Tensor,
    down: Tensor,
    weights: Tensor,
    x: Tensor,
    planes: Tensor,
    h: Tensor,
) -> Gradients:
    """Gradients of the tokens, and of weight and bias of ``down`` and of the maps.

    Args:
        needs: which of them are needed.
        settings: of the scan.
        grad: gradient of u h, (4 C_proxy, P).
        tokens: see ``_Mix.forward``, as the following.
        down: its weight.
        weights: four identities and the weights of the maps.
        x: the input of the scan.
        planes: lam, u and the logits.
        h: of the scan.
    """
    result: Gradients = [None] * 9
    proxy, four, rows = down.shape[0], h.shape[0], weights.shape[0]
    outputs = [four, four, LOGITS]
    # Gradients of x by direction, of lam, u and the logits; then the gradient of x.
    every = x.new_empty((rows + proxy, x.shape[1]))
    of_scan, of_x = every.split_with_sizes((rows, proxy))
    scan_planes_backward(grad, x, planes, h, of_scan, settings)
    _, of_planes = of_scan.split_with_sizes((four, rows - four))
    if needs[3] or needs[5] or needs[7]:
        parts = torch.mm(of_planes, x.t()).split_with_sizes(outputs)
        result[3:9:2] = _needed(parts, needs[3:9:2])
    if needs[0] or needs[1] or needs[2]:
        torch.mm(weights.t(), of_scan, out=of_x)
        _, of_planes = every.split_with_sizes((four, rows - four + proxy))
        outputs.append(proxy)
    if needs[2] or needs[4] or needs[6] or needs[8]:
        sums = of_planes.sum(1).split_with_sizes(outputs)
        result[4:9:2] = _needed(sums, needs[4:9:2])
        result[2] = sums[3] if needs[2] else None
    if needs[1]:
        result[1] = torch.mm(of_x, tokens.flatten(0, 1))
    if needs[0]:
        result[0] = torch.mm(of_x.t(), down).view(tokens.shape)
    return result


def _needed(parts: Sequence[Tensor], needs: Sequence[bool]) -> Gradients:
    return [part if need else None for part, need in zip(parts, needs, strict=False)]


def _gradients_again(ctx: Any, grad: Tensor) -> Gradients:
    """The same, computed by autograd of a second call, so they are differentiable themselves.

    Raises:
        RuntimeError: a bias was changed in place since forward.
    """
    tokens, *weights = ctx.saved_tensors[:7]
    if _versions(ctx.biases) != ctx.versions:
        raise RuntimeError(
            "a bias needed for gradients of gradients has been modified by an inplace operation"
        )
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view per input: the second call ends there, even if one input is computed from another.
        parameters = [t for pair in zip(weights, ctx.biases, strict=True) for t in pair]
        inputs = [None if t is None else t.view_as(t) for t in (tokens, *parameters)]
        mixed = inputs[0]
        assert mixed is not None
        output = mix_composed(ctx.scans, mixed, ctx.settings[1:3], inputs[1:])
        output = output.view(tokens.shape)
    needs = ctx.needs_input_grad[2:]
    wanted = [t for t, need in zip(inputs, needs, strict=True) if need and t is not None]
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=differentiable))
    return [next(found) if need else None for need in needs]


def _add_product(bias: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    return torch.mm(left, right) if bias is None else torch.addmm(bias, left, right)


def _stacked_bias(biases: Sequence[Tensor | None], one: Tensor) -> Tensor:
    """The bias of the maps to lam, u and the logits.

    Args:
        biases: of lam - 1, u - 1 and the logits.
        one: 1 for lam and u, 0 for the logits.
    """
    present = [bias for bias in biases if bias is not None]
    if not present:
        return one
    if len(present) < len(biases):
        four = (one.shape[0] - LOGITS) // 2
        sizes = (four, four, LOGITS)
        present = [
            one.new_zeros(size) if bias is None else bias
            for bias, size in zip(biases, sizes, strict=True)
        ]
    return torch.cat(present).add_(one)


def _versions(biases: Sequence[Tensor | None]) -> list[int | None]:
    return [None if bias is None else bias._version for bias in biases]


_kept_constants: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}


def _constants(down: Tensor) -> tuple[Tensor, Tensor]:
    """Four identities, (4 C_proxy, C_proxy), and the 1 of lam and u, (8 C_proxy + 12,).

    Args:
        down: the weight whose type, device and C_proxy they have.
    """
    key = down.shape[0], down.dtype, down.device
    constants = _kept_constants.get(key)
    if constants is None:
        constants = _make_constants(*key)
    return constants


def _make_constants(proxy: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    identities = torch.eye(proxy, dtype=dtype, device=device).repeat(DIRECTIONS, 1)
    one = torch.ones(2 * DIRECTIONS * proxy + LOGITS, dtype=dtype, device=device)
    one[-LOGITS:].zero_()
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            return identities, one  # in memory of the graph
        torch.cuda.synchronize(device)  # other streams may read them from here on
    if not torch._C._len_torch_dispatch_stack():
        if len(_kept_constants) >= MAX_CONSTANTS:
            _kept_constants.clear()
        _kept_constants[proxy, dtype, device] = identities, one
    return identities, one
