"""The command that serves the page, and the process that runs one of its jobs.

Parse, call one function, print.
"""
