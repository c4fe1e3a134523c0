"""Docstrings as this tree writes them, made readable for griffe: sections that follow each other without an empty line,
several parameters in one entry, and roles such as ``:func:`read```."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<!\n)\n(Args|Returns|Raises|Yields|Attributes|Example|Examples):\n")
_ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?([^`]+)`")
_SEVERAL = re.compile(
    r"^(?P<indent> +)(?P<names>[a-z_*]+(?:, [a-z_*]+)+): ?(?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE
)


class Readable(griffe.Extension):  # type: ignore[misc]
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class and function."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """The same docstring in the way that griffe's parser of Google's style takes it."""
    text = _SECTION.sub(r"\n\n\1:\n", text)
    text = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    return _SEVERAL.sub(_one_by_one, text)


def _one_by_one(entry: re.Match[str]) -> str:
    names = entry["names"].split(", ")
    return "\n".join(f"{entry['indent']}{name}: {entry['text']}" for name in names)
