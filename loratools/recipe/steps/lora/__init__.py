"""Steps that make or change a LoRA, one module a kind: its options, and the way from them to the file.

``common`` and ``train_settings`` hold what several kinds share.
"""
