"""Recipes: one YAML file from a folder of images to the merged file and its grid, run in steps that are cached."""
