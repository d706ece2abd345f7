"""The command line from a bare checkout: ``python cli.py sweep quick``, nothing installed."""

import importlib.util
from pathlib import Path

import gspn2bench

# Installed, kernels/ and scenarios/ are parts of the package; in a checkout they lie beside it.
if importlib.util.find_spec("gspn2bench.kernels") is None:
    gspn2bench.__path__.append(str(Path(__file__).resolve().parent))

from gspn2bench.app import main

if __name__ == "__main__":
    main()
