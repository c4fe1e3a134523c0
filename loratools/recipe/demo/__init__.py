"""``loratools demo``: the shipped story on the pocket base, told as it runs.

The recipe itself is ``demo.yaml`` beside it.
"""
