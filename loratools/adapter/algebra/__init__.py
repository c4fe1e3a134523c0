"""The exact pieces that a LoRA is a sum of, as matrices: products of factors, their ranks, and rows of fused layers.

Maths only: no file and no model family is known here.
"""
