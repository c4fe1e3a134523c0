"""Recipes out of other tools' settings: the WebUI's infotexts, SuperMerger, sd-scripts, our own headers.

A new source is a reader here and a line in ``detect.py``.
"""
