"""Reports: runs in, one HTML file out, or text. Never imports numba or torch.

``page`` assembles, ``figures`` draws on ``bars``, ``tables`` lists, ``verdict`` says it in a
sentence, ``summary`` adds how it came about, ``text`` makes names and numbers safe and short,
``files`` writes. ``markdown`` says the same for GitHub, ``terminal`` for a terminal; ``ladder`` is
the page of the rungs.
"""

from gspn2bench.report.page import render, write

__all__ = ["render", "write"]
