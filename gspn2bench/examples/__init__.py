"""Example programs: ``python -m gspn2bench.examples.digits`` trains a digit classifier."""
