"""``loratools dataset``: from a folder of pictures to a set that trains well; a file a subcommand.

Parse, call one function, print.
"""
