"""What a LoRA file is: bytes to an :class:`~loratools.adapter.file.Adapter` of exact low-rank pieces, and back."""
