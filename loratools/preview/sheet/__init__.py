"""The labelled picture of a whole grid, and strips and charts of blocks.

Draws from a grid's record and its finished pictures.
"""
