"""The line scan as a function of torch tensors: one direction, or four.

Source: arXiv 2501.12381, equations 1 to 3; four directions: arXiv 2512.07884, section 3.
"""

import torch
from torch import Tensor

from gspn2bench.ops.check import ALL, check_keep_every, check_kinds, check_tensor
from gspn2bench.ops.checkpoints import KeepEvery, checkpointed_scan
from gspn2bench.ops.forward_mode import refuse_forward_mode
from gspn2bench.ops.library import scan
from gspn2bench.ops.scaled import scaled_scans
from gspn2bench.problem import Direction


def line_scan(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    *,
    direction: Direction = "down",
    chunk: int | None = None,
    rung: str = "auto",
    logits: bool = False,
    keep_every: KeepEvery | None = None,
) -> Tensor:
    """H of a line scan: each line is computed from the line before it.

    Scanning down, h[i,p] = w[0][i,p] h[i-1,p-1] + w[1][i,p] h[i-1,p] + w[2][i,p] h[i-1,p+1]
    + lam[i,p] x[i,p]. h before the first line is 0, and so is a neighbour outside the plane.

    All tensors have one device and one type: float32, float16 or bfloat16, on a CPU also float64.
    Tensors that are not contiguous are copied. Sums are float32 (float64 for float64). Autocast
    casts x, lam and w to its type, except float64. Sizes may be 0; h is then empty.

    Args:
        x: input, (N, C, H, W).
        lam: input scale, (N, C, H, W).
        w: weights of the left, middle and right neighbour, (3, N, C, H, W), or (3, N, H, W) where
            the channels share them; ``normalize_weights`` returns stable ones. "Left" is the
            neighbour of lower index: the one above, when scanning right or left.
        direction: "down" (from row 0), "up", "right" (from column 0) or "left".
        chunk: lines after which h restarts at 0 (GSPN-local), 1 to the scan length; None: never.
        rung: the rung that computes on a GPU, by id, or "auto": the fastest one at these sizes, by
            our measurements. Ignored on a CPU.
        logits: whether w holds logits of the weights. They are normalized as ``normalize_weights``
            does (in registers, if the rung can), and the gradient of w is that of the logits.
        keep_every: K: h is kept for backward on every K-th line only, and recomputed in blocks of
            K lines; "auto": 16 blocks, or fewer of 16 lines; None: all of h is kept. It saves
            memory if nothing else keeps h.

    Returns:
        h, (N, C, H, W), contiguous; differentiable any number of times in x, lam and w.

    Raises:
        ValueError: an argument is invalid; the message names it and says what was expected.
        NotImplementedError: forward-mode differentiation.
    """
    check_kinds(x, lam, w, direction, chunk, rung, logits)
    check_keep_every(keep_every)
    refuse_forward_mode(x, lam, w)
    x, lam, w = autocast(x, lam, w)
    if keep_every is not None and torch.is_grad_enabled():
        return checkpointed_scan(x, lam, w, None, direction, chunk, rung, logits, keep_every)
    h: Tensor = scan(x, lam, w, direction, chunk, rung, logits)
    return h


def line_scan4(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    *,
    u: Tensor | None = None,
    bias: Tensor | None = None,
    chunk: int | None = None,
    rung: str = "auto",
    logits: bool = False,
    keep_every: KeepEvery | None = None,
) -> Tensor:
    """Four line scans of one input, down, up, right and left in this order: h, or u * h.

    On a GPU they are one launch up to maps of 256 x 256, and run on a stream each above. Types,
    autocast, weights and sizes are as for ``line_scan``. With u, tensors may lie channel by channel
    in memory, (C, N, H, W); they are not copied then.

    Args:
        x: input, (N, C, H, W).
        lam: input scale of each direction, (4, N, C, H, W).
        w: weights of each direction, (4, 3, N, C, H, W), or (4, 3, N, H, W) where the channels
            share them.
        u: output scale of each direction, like lam; the result is then u * h.
        bias: added to x, lam, u and w first, for inference only, and with u only: one value for
            each of their channels in this order, C + 4 C + 4 C + 12 values, or 12 C at the end if
            each channel has its own weights. A product that computes the four tensors then needs
            no bias.
        chunk: lines after which h restarts at 0, 1 to the longer of H and W; None: never.
        rung: as ``line_scan``.
        logits: as ``line_scan``; each direction is normalized along its own lines.
        keep_every: as ``line_scan``; with u, nothing else keeps h.

    Returns:
        h of each direction, (4, N, C, H, W), contiguous, or u * h in the memory layout of lam;
        differentiable any number of times in x, lam, w and u.

    Raises:
        ValueError: as ``line_scan``.
        NotImplementedError: as ``line_scan``.
    """
    check_kinds(x, lam, w, ALL, chunk, rung, logits)
    check_keep_every(keep_every)
    if bias is not None or not torch.is_grad_enabled():
        keep_every = None
    if u is None:
        if bias is not None:
            raise ValueError("bias: given without u, expected None")
        refuse_forward_mode(x, lam, w)
        x, lam, w = autocast(x, lam, w)
        if keep_every is not None:
            return checkpointed_scan(x, lam, w, None, ALL, chunk, rung, logits, keep_every)
        h: Tensor = scan(x, lam, w, ALL, chunk, rung, logits)
        return h
    check_tensor("u", u)
    refuse_forward_mode(x, lam, w, u)
    with_h = bias is None and torch.is_grad_enabled()  # for the gradients
    if bias is not None:
        check_tensor("bias", bias)
        (bias,) = autocast(bias)
    x, lam, w, u = autocast(x, lam, w, u)
    if keep_every is not None:
        return checkpointed_scan(x, lam, w, u, ALL, chunk, rung, logits, keep_every)
    y, _ = scaled_scans(x, lam, w, u, chunk, rung, logits, with_h, bias)
    return y


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's type if it is on."""
    device = tensors[0].device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in tensors)
