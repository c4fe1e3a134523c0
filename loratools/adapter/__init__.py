"""What a LoRA file is: bytes to an :class:`~loratools.adapter.files.file.Adapter` of exact pieces, and back."""
