"""Modules of torch around the line scan: attention, blocks, the backbones GSPN-2 Tiny to Base.

``layout.py`` takes images and tokens, ``attention.py`` has the modules of GSPN-1 and GSPN-2,
``softmax.py`` the attention that they replace, ``block.py`` a block around any of them,
``backbone.py`` the models, ``macs.py`` counts what they cost.
Examples: docs/operator.md.
"""

from gspn2bench.nn.attention import GSPN1Attention, GSPN2Attention
from gspn2bench.nn.backbone import GSPN2Backbone, gspn2_base, gspn2_small, gspn2_tiny
from gspn2bench.nn.block import GSPNBlock
from gspn2bench.nn.macs import count_macs
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
]
