"""One training step as device work: noise, losses, gradients, and how it is executed (eager, compiled, captured).

A new loss or noise option is maths in ``objective.py``.
"""
