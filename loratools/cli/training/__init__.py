"""Commands that train, and that read what a training left.

Parse, call one function, print.
"""
