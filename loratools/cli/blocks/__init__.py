"""``loratools blocks``: vectors shown, converted, edited, suggested and measured.

Parse, call one function, print.
"""
