"""Pictures that a base draws of itself to be trained on: those of its own style, and those of a prior.

What is asked for is in ``generate.py`` and ``prior.py``; both fill a folder that is completed where it was left.
"""
