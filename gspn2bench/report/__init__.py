"""Reports: runs in, one HTML file out, or text. Never imports numba or torch.

``page`` assembles it: ``figures`` names what is drawn, ``controls`` what can be chosen, ``data``
is what the scripts under ``assets`` draw from, ``tables`` lists, ``versus`` sets runs against the
first. ``verdict`` says it in a sentence, ``summary`` adds how it came about, ``text`` makes names
and numbers safe and short, ``files`` writes, ``pictures`` has a browser draw the figures.
``markdown`` says the same for GitHub, ``terminal`` and ``changes`` for a terminal, ``records`` for
scripts; ``ladder`` is the page of the rungs.
"""

from gspn2bench.report.html.page import render, write
from gspn2bench.report.html.pictures import write_pictures

__all__ = ["render", "write", "write_pictures"]
