"""From rows to figures: ``frame`` defines every figure, ``compare`` pairs two runs.

``significance`` gives the verdict on one changed latency.
"""
