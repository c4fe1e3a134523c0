"""Pictures from jobs: batches, the engine, prompts encoded once, decoding, PNG files, shared claims.

The hot path of a grid; everything above it only plans.
"""
