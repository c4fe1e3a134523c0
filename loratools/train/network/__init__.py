"""The modules that are trained: which layers get one, of which rank and kind, and how they start.

A new kind of adapter layer is a class beside those of ``layers.py``.
"""
