"""Lists of texts on an axis, and the WebUI's Prompt S/R: search a text, put others in its place."""

from __future__ import annotations

import csv

from loratools.errors import GridError
from loratools.errors import did_you_mean as nearest


def split_texts(text: str, *, commas: bool = True, empty: bool = False) -> list[str]:
    """The texts of a list, trimmed: parted by ``;`` where one stands outside quotes, else by commas as in a CSV line.

    A text in double quotes keeps its separators (``"a, b", c`` are two); ``""`` inside it is one quote, as in the
    WebUI. A quoted piece of a longer text (``A:1,"my file":-1``) keeps its quotes.

    Args:
        commas: whether a comma parts texts; prompts hold commas of their own.
        empty: whether nothing between two separators is a text too, as ``""`` is in any case; else it is passed over.
    Raises:
        GridError: if a quote stays open.
    """
    semicolons = _split(text, ";")
    found = semicolons if len(semicolons) > 1 or not commas else _split(text, ",")
    return [_unquoted(item.strip()) for item in found if empty or item.strip()]


def _split(text: str, separator: str) -> list[str]:
    found, quoted, start = [], False, 0
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == separator and not quoted:
            found.append(text[start:place])
            start = place + 1
    if quoted:
        raise GridError(f"a double quote in '{text}' is not closed; write \"a, b\", c")
    return [*found, text[start:]]


def _unquoted(item: str) -> str:
    if len(item) < 2 or not (item.startswith('"') and item.endswith('"')):
        return item
    fields = next(csv.reader([item], skipinitialspace=True), [])
    return fields[0] if len(fields) == 1 else item


def replace_all(search: str, other: str, prompt: str, negative: str, axis: str) -> tuple[str, str]:
    """``other`` wherever ``search`` stands, in both prompts, as the WebUI does.

    Raises:
        GridError: if it stands in neither; the nearest word of the prompt is named.
    """
    if search not in prompt and search not in negative:
        words = [word.strip() for word in f"{prompt},{negative}".split(",") if word.strip()]
        raise GridError(
            f"{axis} (Prompt S/R): '{search}' stands neither in the prompt '{prompt}' nor in the negative prompt"
            f"{nearest(search, words)}; its first value is the text that is searched for"
        )
    return prompt.replace(search, other), negative.replace(search, other)
