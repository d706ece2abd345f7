"""PyTorch modules built on the line scan: attention, blocks, the backbones GSPN-2 Tiny to Base.

``attention.py`` has the modules of GSPN-1 and GSPN-2, ``scans.py`` the four scans in both, and
``softmax.py`` the attention that they replace. ``block.py`` has a block around any of them and
``backbone.py`` the models. ``layout.py`` converts images and tokens. ``folding.py`` decides when
linear layers may be used by their weights, ``folded_weights.py`` computes the weights of products,
and ``weight_cache.py`` keeps them for inference. ``inference_plan.py`` prepares a call of GSPN-2 on
a GPU, and ``training.py`` has its forward and backward as one node of autograd. ``state.py``
initializes and loads parameters, ``check.py`` checks arguments, and ``macs.py`` counts multiply-
accumulates. ``models/`` puts GSPN-2 in the place of attention in models of other libraries.
Examples: docs/operator.md and docs/models.md.
"""

from gspn2bench.nn.attention import GSPN1Attention, GSPN2Attention
from gspn2bench.nn.backbone import GSPN2Backbone, gspn2_base, gspn2_small, gspn2_tiny
from gspn2bench.nn.block import GSPNBlock
from gspn2bench.nn.macs import count_macs
from gspn2bench.nn.models import load_replaced, replace_attention, save_replaced
from gspn2bench.nn.softmax import SoftmaxAttention

__all__ = [
    "GSPN1Attention",
    "GSPN2Attention",
    "GSPN2Backbone",
    "GSPNBlock",
    "SoftmaxAttention",
    "count_macs",
    "gspn2_base",
    "gspn2_small",
    "gspn2_tiny",
    "load_replaced",
    "replace_attention",
    "save_replaced",
]
