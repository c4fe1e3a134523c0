"""Drawing on pictures: fonts, colours and tiles for the sheets of grids and of training samples.

Knows no model and no LoRA; pixels in, pixels out.
"""
