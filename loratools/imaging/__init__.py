"""Pictures as things to draw on: text, colours and sheets that training samples and grids share.

Knows no model and no LoRA; pixels in, pixels out.
"""
