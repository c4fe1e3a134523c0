"""From a prompt in the WebUI's syntax to conditioning: parsing, chunks of 75 tokens, embeddings, guidance.

Text in, tensors out; sampling lies below.
"""
