"""From a checked recipe to steps with content keys: references resolved, inputs digested, order found.

Nothing runs here.
"""
