"""Save a model whose attention was replaced, and load it."""

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from gspn2bench.nn.models.contract import InPlaceOfAttention, Options, Site
from gspn2bench.nn.models.replace import Replacement, swap
from gspn2bench.nn.models.search import find_attentions

FILE: Final = "gspn2.json"
"""Which attentions were replaced, and how, beside the weights."""
WEIGHTS: Final = "model.pt"
FORMAT: Final = 1


def describe_replaced(model: nn.Module) -> dict[str, Any]:
    """Which attentions of a model were replaced, and how, as values of JSON.

    Raises:
        ValueError: none was, or one has a mixer of the caller, which JSON cannot hold.
    """
    sites = {}
    for name, module in model.named_modules():
        if isinstance(module, InPlaceOfAttention):
            if module.options is None:
                raise ValueError(f"{name}: built by `mixer`, which cannot be saved")
            sites[name] = module.options.to_json()
    if not sites:
        raise ValueError(f"model: no attention of {type(model).__name__} was replaced")
    return {"format": FORMAT, "sites": sites}


def replace_as(model: nn.Module, description: dict[str, Any]) -> Replacement:
    """Replace the attentions of a new model as ``describe_replaced`` says.

    Then ``load_state_dict`` of a model that was described loads strictly.

    Raises:
        ValueError: the description is of a different format, or of a different model.
    """
    if description.get("format") != FORMAT:
        raise ValueError(f"format: {description.get('format')!r}, expected {FORMAT}")
    found = find_attentions(model)
    sites = {site.name: site for site in found if isinstance(site, Site)}
    missing = sorted(description["sites"].keys() - sites.keys())
    if missing:
        raise ValueError(f"model: {type(model).__name__} has no attention {', '.join(missing)}")
    chosen = [
        (sites[name], Options.from_json(values)) for name, values in description["sites"].items()
    ]
    return swap(model, chosen, [])


def save_replaced(model: nn.Module, folder: str | Path) -> None:
    """Save a model whose attention was replaced: its weights and ``gspn2.json``.

    Models of transformers and diffusers write their own files (``save_pretrained``), others a state
    in ``model.pt``.

    Args:
        model: after ``replace_attention``.
        folder: made if it does not exist.

    Raises:
        ValueError: no attention was replaced, or one cannot be saved.
    """
    description = describe_replaced(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own: Any = getattr(model, "save_pretrained", None)
    if callable(own):
        own(folder)
    else:
        torch.save(model.state_dict(), folder / WEIGHTS)
    (folder / FILE).write_text(json.dumps(description, indent=2) + "\n")


def load_replaced(build: Callable[..., nn.Module], folder: str | Path, **options: Any) -> nn.Module:
    """Load a model that ``save_replaced`` saved.

    ``from_pretrained`` of the original class would build the original attention, and load the rest
    with a warning at most.

    Args:
        build: the model's class, for transformers and diffusers; for others a function that builds
            the original model.
        folder: as for ``save_replaced``.
        options: for ``from_pretrained``, or for ``build``.

    Returns:
        The model, in eval mode for transformers and diffusers, as ``build`` returns it otherwise.

    Raises:
        ValueError: the folder is of a different format, or of a different model.
        FileNotFoundError: the folder is not one of ``save_replaced``.
    """
    folder = Path(folder)
    description = json.loads((folder / FILE).read_text())
    if isinstance(build, type) and hasattr(build, "from_pretrained"):
        loaded: nn.Module = _replacing(build, description).from_pretrained(folder, **options)
        return loaded
    model = build(**options)
    replace_as(model, description)
    model.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    return model


def _replacing(cls: Any, description: dict[str, Any]) -> Any:
    """A subclass whose new models have their attention replaced, before weights are loaded."""

    @wraps(cls.__init__)  # diffusers reads its parameters
    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__(self, *args, **kwargs)
        replace_as(self, description)

    names = {"__init__": build, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), names)
