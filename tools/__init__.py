"""Programs for those who work on loratools itself; nothing in the package imports them.

``build_pocket`` trains the embedded base model anew.
"""
