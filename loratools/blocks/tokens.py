"""What block vectors are read from: items between separators outside parentheses, and numbers."""

from __future__ import annotations

import math


def split_items(text: str, separator: str = ",") -> list[str]:
    """``text`` at each ``separator`` that stands outside parentheses, the parts stripped."""
    items, start, depth = [], 0, 0
    for index, character in enumerate(text):
        if character in "()":
            depth += 1 if character == "(" else -1
        elif character == separator and depth == 0:
            items.append(text[start:index].strip())
            start = index + 1
    return [*items, text[start:].strip()]


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def number(value: float) -> str:
    """A weight as short as it can be written without changing it visibly: 12 digits, no trailing zeros."""
    return format(value + 0.0, ".12g") if value else "0"


def clip(text: str) -> str:
    """At most 60 characters of ``text``, for a message."""
    return text if len(text) <= 60 else f"{text[:60]}..."
