"""``loratools demo``: the shipped recipe on the pocket base, with a line on each step.

The recipe itself is ``demo.yaml`` beside it.
"""
