"""One declaration of data for each model family: its modules, their shapes and their names in every spelling.

A new family is a new entry here; the name tables are generated from it.
"""
