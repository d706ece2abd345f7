"""Forward-mode differentiation is not implemented, and is refused.

torch drops the tangents of a custom operator's inputs without an error: the result would be 0. The
functions of ``scan.py`` and the backward of the operators therefore check for tangents. A direct
call of ``torch.ops.gspn2bench.line_scan``, or an exported program, bypasses this check.
"""

from torch import Tensor
from torch.autograd import forward_ad


def refuse_forward_mode(*tensors: Tensor, name: str = "line_scan") -> None:
    """Check that no tensor carries a tangent (torch.func.jvp, torch.autograd.forward_ad).

    Args:
        tensors: of a call.
        name: of the function, for the message.

    Raises:
        NotImplementedError: one does.
    """
    if forward_ad._current_level < 0:  # no tensor has a tangent
        return
    for tensor in tensors:
        if forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
            raise NotImplementedError(
                f"{name}: forward-mode differentiation (torch.func.jvp, jacfwd, hessian, "
                "torch.autograd.forward_ad) is not implemented; use reverse mode "
                "(torch.autograd.grad)"
            )
