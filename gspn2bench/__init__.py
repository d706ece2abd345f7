"""gspn2bench: benchmark and profile GPU kernels for the GSPN line scan."""

from pathlib import Path

__version__ = "0.2.0"

# kernels/ and scenarios/ are installed as parts of the package; in a checkout they are beside it.
if not (_HERE := Path(__file__).parent).joinpath("kernels").is_dir():
    __path__.append(str(_HERE.parent))
