"""The local page ``loratools studio``: a server over the user's own files, its queue of jobs and its live pictures.

It is a view: each button runs a command or a recipe's step that the command line has too, and shows it.
"""
