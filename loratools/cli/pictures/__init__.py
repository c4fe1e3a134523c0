"""Commands that render.

Parse, call one function, print.
"""
