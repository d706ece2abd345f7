"""Examples that run: ``python -m gspn2bench.examples.digits`` trains a classifier of digits."""
