"""Configs of sd-scripts and kohya_ss, read as ours or refused by name.

Keys and their meanings are tables in ``options.py``.
"""
