"""A UNet's repeated blocks compiled once and reused, with branches' factors as inputs; kept on disk for the next start.

``trace.py`` makes a block a function of its tensors, ``store.py`` keeps what was compiled, ``blocks.py`` uses it.
"""
