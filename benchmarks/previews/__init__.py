"""Speed and memory of grids against diffusers and against the bare UNet.

``__main__`` reads the command line, ``device``, ``grids`` and ``shard`` measure, ``bench`` is what they share.
"""
