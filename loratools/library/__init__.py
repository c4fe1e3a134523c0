"""What a program calls, and the command line too: an operation from plain values to its report, and nothing printed.

``import loratools`` hands these functions on. Each reads paths and texts, calls one room above, and returns that
room's result; a mistake is an error of :mod:`loratools.errors`.
"""
