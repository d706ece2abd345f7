"""Reports on recorded runs, as HTML or as text. Never imports numba or torch.

``html`` is the page and its pictures; ``text`` is Markdown, the terminal, and JSON and CSV for
scripts. They do not import each other. The modules here serve both: ``verdict`` puts a run into
sentences, ``summary`` adds its facts, ``comparison`` puts a comparison into sentences, ``tables``
formats rows, ``formatting`` formats names and numbers, and ``files`` writes report files.
"""

from gspn2bench.report.html.page import render, write
from gspn2bench.report.html.pictures import write_pictures

__all__ = ["render", "write", "write_pictures"]
