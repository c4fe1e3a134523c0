"""What block vectors are read from: items between separators outside parentheses, and numbers."""

from __future__ import annotations

import math


def split_items(text: str, separator: str = ",", *, strip: bool = True) -> list[str]:
    """``text`` at each ``separator`` that stands outside parentheses.

    Args:
        strip: leave out the spaces around each part.
    """
    items, start, depth = [], 0, 0
    for index, character in enumerate(text):
        if character in "()":
            depth += 1 if character == "(" else -1
        elif character == separator and depth == 0:
            items.append(text[start:index])
            start = index + 1
    items.append(text[start:])
    return [item.strip() for item in items] if strip else items


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def number(value: float, digits: int = 12) -> str:
    """A weight as short as it can be written without changing it visibly: ``0.3`` for 0.1 + 0.2, ``1`` for 1.0.

    Args:
        digits: significant ones; trailing zeros are left out.
    """
    return f"{value + 0.0:.{digits}g}"  # + 0.0 makes -0.0 plain


def stripped_span(text: str, start: int, end: int) -> tuple[int, int]:
    """Where ``text[start:end]`` begins and ends without the spaces around it."""
    raw = text[start:end]
    begin = start + len(raw) - len(raw.lstrip())
    return begin, begin + len(raw.strip())


def clip(text: str) -> str:
    """At most 60 characters of ``text``, for a message."""
    return text if len(text) <= 60 else f"{text[:60]}..."
