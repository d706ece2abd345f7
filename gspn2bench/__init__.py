"""gspn2bench: benchmark and profile GPU kernels for the GSPN line scan."""

__version__ = "0.1.0"
