"""From a checked recipe to steps with content keys: references resolved, inputs digested, steps in order.

Nothing runs here.
"""
