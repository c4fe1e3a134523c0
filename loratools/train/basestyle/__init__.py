"""The LoRA of what a base draws by itself: its pictures are generated, then a LoRA is trained on them.

It stands on everything else in this room.
"""
