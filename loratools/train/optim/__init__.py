"""Optimizers, their parameter groups and learning-rate schedules.

A new optimizer is an entry of ``optimizers.py``.
"""
