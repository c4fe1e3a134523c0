"""What a LoRA holds, said in numbers: norms, ranks and likeness by block, and vectors suggested from them.

Nothing here changes or writes a LoRA.
"""
