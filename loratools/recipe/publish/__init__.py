"""What goes with a published file: its story in the header, a model card, side-cars.

The publish step lies in ``steps/pictures``.
"""
