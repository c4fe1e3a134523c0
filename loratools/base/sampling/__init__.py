"""From noise to latents: samplers, noise levels (sigmas), noise of a seed, and the captured UNet.

A new sampler is an entry of ``samplers.py``, its formula a function of ``k_samplers.py``.
"""
