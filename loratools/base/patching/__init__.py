"""LoRA deltas on a loaded base: W0 + w * delta, restored bit for bit, or as one branch for each row of a batch.

Strength, vectors and alpha are folded in by ``ops/merging`` before they get here.
"""
