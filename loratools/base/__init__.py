"""A base model: finding and loading it, encoding prompts, patching W0 + w * delta, sampling pictures and their texts.

``generate.py`` is the way from a prompt to a picture; ``prompt/``, ``patching/`` and ``sampling/`` are its parts.
"""
