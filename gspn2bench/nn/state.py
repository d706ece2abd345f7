"""Parameters of the modules: initialized anew, and loaded from older versions."""

from typing import Any, Final

from torch import nn

RENAMED: Final = {"lam": "lam_delta", "u": "u_delta"}
"""Linear layers of version 1 that held lam and u; version 2 has them minus 1."""


def reset_parameters(module: nn.Module) -> None:
    """Draw new parameters for a module: by its own ``reset_parameters``, or for each child."""
    own = getattr(module, "reset_parameters", None)
    if callable(own):
        own()
        return
    for child in module.children():
        reset_parameters(child)


def convert_to_version_2(state: dict[str, Any], prefix: str) -> None:
    """Rename the layers of version 1, and subtract from their bias the 1 that is now computed.

    The names tell the versions apart, so this also works for states without metadata, as
    safetensors has them. A state that has both names is left alone: strict loading refuses it.

    Args:
        state: changed in place.
        prefix: of the names of one ``FourScans``.
    """
    for before, after in RENAMED.items():
        for parameter in ("weight", "bias"):
            old, new = f"{prefix}{before}.{parameter}", f"{prefix}{after}.{parameter}"
            if old in state and new not in state:
                value = state.pop(old)
                state[new] = value - 1 if parameter == "bias" else value
