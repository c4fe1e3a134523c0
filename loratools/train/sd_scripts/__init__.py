"""Configs of sd-scripts and of GUIs for it, read as ours or refused by name, and those of other trainers, recognised.

Keys and their meanings are tables in ``options.py``.
"""
