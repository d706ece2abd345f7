"""Example programs on the digits that come with scikit-learn.

``python -m gspn2bench.examples.digits`` trains a classifier. ``distill`` puts GSPN-2 in the place
of the attention of a trained model and distils it. ``generate`` trains a model that draws digits.
"""
