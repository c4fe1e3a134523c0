"""Faster forwards of a base's convolutional blocks on CUDA: channels-last weights, and GroupNorm fused with SiLU.

``group_norm.py`` is the operations with a torch fallback, ``modules.py`` puts them into diffusers' modules and back.
"""
