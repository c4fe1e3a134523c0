"""What a user may ask of a grid, read from text: rows, axes, number ranges, settings, LoRA tags in prompts.

Text in, requests out, errors with their place.
"""
