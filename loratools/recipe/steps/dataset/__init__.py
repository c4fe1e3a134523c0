"""Steps that make a set of training pictures: each reads a folder of pictures and writes another.

One file a kind, and what they share beside them.
"""
