"""Weighted sums of LoRAs: the merge string, the exact sum, the other methods, writing the result, and checking it.

A new merge method is declared in ``methods/declared.py``.
"""
