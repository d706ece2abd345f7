"""Reports: runs in, one HTML file out. Never imports numba or torch.

``page`` assembles, ``figures`` draws on ``bars``, ``tables`` lists, ``verdict`` says it in a
sentence, ``text`` makes names and numbers safe and short.
"""

from gspn2bench.report.page import render, write

__all__ = ["render", "write"]
