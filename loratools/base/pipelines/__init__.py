"""Bases of other families than Stable Diffusion: Diffusers folders, drawn by diffusers' own pipeline of their class.

A pipeline says by its signature what it takes; :mod:`.kinds` has what a signature does not say.
"""
