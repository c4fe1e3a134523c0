"""What may stand in a recipe: pydantic models, includes, variables, and every option as a table.

A new kind of step is declared in ``kinds.py``.
"""
