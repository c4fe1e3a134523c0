"""Commands on recipes, their cache and their results.

Parse, call one function, print.
"""
