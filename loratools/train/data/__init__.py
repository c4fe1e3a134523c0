"""What an epoch shows: which pictures in which order and size, their latents, read ahead of the GPU.

Reading folders and captions is ``loratools/dataset``.
"""
