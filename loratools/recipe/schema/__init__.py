"""What may stand in a recipe: its own keys, includes, variables, the list of step kinds, and every option as a table.

A kind of step, with its options, is declared under ``recipe/steps`` and listed in ``kinds.py``.
"""
