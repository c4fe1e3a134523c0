"""The modules that are trained: which of the base's get an adapter layer, of which kind and rank, and initial values.

A new kind of adapter layer is a class beside those of ``layers.py``.
"""
