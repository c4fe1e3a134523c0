"""Every option of a training, by theme: one model each, checked before anything is loaded.

A new option is a field in the file of its theme.
"""
