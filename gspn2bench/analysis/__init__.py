"""Derived figures: ``frame`` defines each of them, and ``compare`` pairs the rows of two runs.

``significance`` gives the verdict on one pair of latencies.
"""
