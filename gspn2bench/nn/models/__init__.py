"""GSPN-2 in models of other libraries: replace their self-attention, save and load the result.

``replace.py`` replaces attention and takes it back, ``search.py`` finds it in a model, and
``saving.py`` saves and loads. ``contract.py`` has what adapters return; each of ``timm.py``,
``torchvision.py``, ``torch_encoder.py``, ``transformers.py`` and ``diffusers.py`` has the calls of
one library. They recognize classes by name, and import none of these libraries. ``plane.py`` knows
H and W of the patches, and ``tokens.py`` mixes patches and the tokens in front of them.
Examples: docs/models.md.
"""

from gspn2bench.nn.models.contract import Kept
from gspn2bench.nn.models.replace import Replacement, Swapped, replace_attention
from gspn2bench.nn.models.saving import (
    describe_replaced,
    load_replaced,
    replace_as,
    save_replaced,
)
from gspn2bench.nn.models.timm import timm_attention

__all__ = [
    "Kept",
    "Replacement",
    "Swapped",
    "describe_replaced",
    "load_replaced",
    "replace_as",
    "replace_attention",
    "save_replaced",
    "timm_attention",
]
