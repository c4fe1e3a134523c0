"""Editing a person's recipe in place: a fix of block vectors, its log, and taking it back.

Every byte that is not the number itself stays as it was.
"""
