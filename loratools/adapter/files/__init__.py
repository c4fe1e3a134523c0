"""LoRA and checkpoint files: bytes to an :class:`~loratools.adapter.files.file.Adapter`, and back in any style.

A new file format is read in ``decode.py``, and written in ``encode.py``.
"""
