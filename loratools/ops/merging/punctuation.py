"""Commas and colons that are not a merge string's own, and what to write in their place."""

from __future__ import annotations

import re

_DECIMAL_COMMA = re.compile(r":\s*(?P<whole>[-+]?\d+),(?P<rest>\d+)\s*(?=[,:]|$)")
_FULL_WIDTH = re.compile(r"\uff1a\s*[-+]?\d")  # a Chinese keyboard's colon before a weight


def has_full_width_colon(text: str) -> bool:
    """Whether a full-width colon stands before a number, as Chinese keyboards write ``A:1``."""
    return _FULL_WIDTH.search(text) is not None


def decimal_comma_remedy(text: str) -> str:
    """The end of an error's sentence where a weight in ``text`` may have a decimal comma, else an empty text."""
    match = _DECIMAL_COMMA.search(text)
    if match is None:
        return ""
    whole, rest = match["whole"], match["rest"]
    return f"; if {whole},{rest} is one number, write {whole}.{rest}"


def semicolon_remedy(text: str) -> str:
    """The end of an error's sentence where terms in ``text`` may be parted by semicolons, else an empty text."""
    return "; terms are parted by a comma, not by ';'" if ";" in text else ""
