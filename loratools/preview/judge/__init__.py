"""What a grid's pictures are worth: features, scores, and the verdict over epochs.

Reads pictures of a finished grid; renders none.
"""
