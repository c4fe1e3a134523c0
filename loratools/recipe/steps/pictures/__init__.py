"""Steps that draw or show: training pictures, grids with their scores, publishing.

One file a kind, and the parts of a grid step beside it.
"""
