"""What the server says to a person, by keys, so that the page says the same in the person's language.

The English words are in ``page/words/en.json``, beside those of the other languages, which only the page reads. A key
with ``.remedy`` at its end is what to do about it.

All that a page shows is one of three kinds, and ``tests/studio/test_words.py`` finds what is none of them: words with a
key; data, which is the same in every language (names, numbers, commands: :func:`plain`); and what the library or a
command said (a LoRA that cannot be read, a failed job's last line), which is English as the command line prints it, and
which the page says that it quotes (:func:`quoted`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from loratools.errors import StudioError
from loratools.studio.api.base import Wire

_QUOTED = "quoted"
_FILE = Path(__file__).parents[1] / "page" / "words" / "en.json"
_REMEDY = ".remedy"
Value = str | int | float


class Words(Wire):
    """Something to say: the page has the words for ``key``, into which ``values`` go; ``text`` is the English."""

    key: str = ""
    values: dict[str, Value] = Field(default_factory=dict)
    text: str


class Failure(Wire):
    """Every answer of status 4xx and 5xx; ``key`` is that of :class:`.words.Words`, with ``.remedy`` of the remedy."""

    error: str
    remedy: str | None = None
    key: str = ""
    values: dict[str, Value] = Field(default_factory=dict)


def words(key: str, **values: Value) -> Words:
    """The words of a key."""
    return Words(key=key, values=values, text=_filled(english()[key], values))


def plain(text: str) -> Words:
    """Data: names and numbers, the same in every language."""
    return Words(text=text)


def quoted(text: str) -> Words:
    """What the library or a command said, in English."""
    return words(_QUOTED, text=text)


def quoted_failure(error: Exception) -> Failure:
    """What is wrong as the library says it, the remedy included."""
    return failure(_QUOTED, text=str(error))


def failure(key: str, **values: Value) -> Failure:
    """What is wrong, and what to do about it where that is known."""
    remedy = english().get(key + _REMEDY)
    return Failure(
        error=_filled(english()[key], values),
        remedy=None if remedy is None else _filled(remedy, values),
        key=key,
        values=values,
    )


def _filled(text: str, values: Mapping[str, Value]) -> str:
    """``text`` with its holes filled; the value of ``how`` is itself a key's end: ``how.killed``."""
    how = values.get("how")
    given = dict(values) if how is None else {**values, "how": english()[f"how.{how}"].format_map(values)}
    return text.format_map(given)


def problem(key: str, *, status: int = 400, **values: Value) -> StudioError:
    """:func:`failure` as an exception, to be raised."""
    made = failure(key, **values)
    return StudioError(made.error, status=status, remedy=made.remedy, key=key, values=values)


def failure_of(error: StudioError) -> Failure:
    """What the page is sent for it."""
    return Failure(error=error.short, remedy=error.remedy, key=error.key, values=error.values)


@lru_cache(maxsize=1)
def english() -> Mapping[str, str]:
    """Every key's English words."""
    content: dict[str, str] = json.loads(_FILE.read_text(encoding="utf-8"))
    return content
