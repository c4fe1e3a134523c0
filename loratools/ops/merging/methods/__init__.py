"""Merge methods that are not the plain sum: what each is and takes (``declared``), and what it computes.

``core_space`` brings LoRAs to small matrices in common bases; ``elementwise``, ``spectral`` and ``sphere`` hold the
papers' formulas.
"""
