"""``python -m gspn2bench``."""

from gspn2bench.app import main

main()
