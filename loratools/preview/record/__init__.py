"""What a grid is once it is asked for: cells and their keys, ``grid.json``, votes.

The same records are read back by pages, sheets and judges.
"""
