"""Commands on LoRA files.

Parse, call one function, print.
"""
