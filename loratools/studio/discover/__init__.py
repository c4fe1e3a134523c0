"""What lies below the opened folders: LoRA files, bases, runs, grids, recipes; looked for again and again.

Headers and logs are read, never a tensor, and nothing here imports torch.
"""
