"""Faster forwards of a base's modules. On CUDA: channels-last weights, and GroupNorm fused with SiLU. On a CPU: oneDNN.

``group_norm.py`` is the operations with a torch fallback, ``modules.py`` puts them into diffusers' modules and back;
``onednn.py`` is for a CPU.
"""
