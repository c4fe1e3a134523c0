"""What a training will do, said before it does it: steps, disk, memory, time, advice and mistakes.

Nothing here loads a base model.
"""
