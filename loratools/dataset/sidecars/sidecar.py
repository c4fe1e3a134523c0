"""What one file says of one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from loratools.dataset.tags.names import unescaped, with_category
from loratools.dataset.tags.tag import Category, Tag
from loratools.dataset.tags.vocabulary import is_junk

_RATINGS: Final = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}


@dataclass(frozen=True)
class Sidecar:
    """What one file says of one picture.

    Attributes:
        format: which program's it is, in a word: ``gallery-dl danbooru``, ``text`` ...
        tags: in the file's order, of every category.
        sentence: natural language.
        group: an id that variants of one picture share; empty if it names none.
        origin: where the picture is from: ``site``, ``id``, ``parent``, ``source``.
        md5, size: of the picture that is meant, where the file says so.
        unescaped: how many tags lost backslashes.
    """

    format: str
    tags: tuple[Tag, ...] = ()
    sentence: str = ""
    group: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    md5: str = ""
    size: tuple[int, int] | None = None
    unescaped: int = 0


def tag_of(raw: str, source: str, category: Category | None = None, score: float | None = None) -> Tag:
    """A tag as a file spells it; a word of a site's bookkeeping is ``meta``, whatever category the file has it in."""
    named = with_category(raw) if category is None else None
    name = named.name if named is not None else with_category(f"general:{raw}").name
    kind = category or (named.category if named is not None else None)
    if kind == "rating":
        return rating(name, source)
    if kind in (None, "general") and is_junk(name):
        kind = "meta"
    return Tag(name, kind or "general", score, source)


def tags_of_words(words: Iterable[str], source: str, category: Category | None = None) -> tuple[Tag, ...]:
    """The tags of a list of words."""
    return tuple(tag_of(word, source, category) for word in words if word.strip())


def rating(value: str, source: str) -> Tag:
    """``g``, ``safe`` or ``rating:safe`` as a tag."""
    word = value.strip().lower().removeprefix("rating:").strip()
    return Tag(f"rating:{_RATINGS.get(word, word)}", "rating", None, source)


def escaped_count(words: Iterable[str]) -> int:
    """How many of the words have backslashes that are not part of a name."""
    return sum(unescaped(word) != word for word in words)
