"""Steps that make or change a LoRA: from options to a draft with its inputs, and from the draft to the file.

One file a kind.
"""
