"""One tag, with what is known of it: its category, a tagger's probability, and who said so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from loratools.errors import DatasetError

Category = Literal[
    "general", "character", "copyright", "artist", "meta", "rating", "species", "model", "quality"
]  # as boorus and taggers have them
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
_CATEGORIES: Final = frozenset(CATEGORIES)
NOT_TRAINED: Final = frozenset({"artist", "meta", "rating", "model", "quality"})  # kept beside a caption, not in it
CAPTION: Final = "caption"  # the source of a tag that stands in a caption file and nowhere else


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag of one picture.

    Attributes:
        name: as a caption has it: with spaces (kaomoji keep their underscores), brackets unescaped.
        category: what kind of thing it names; ``general`` where nothing says.
        score: a tagger's probability, 0 to 1; None if a person or a booru said it.
        source: who said so: ``danbooru``, a tagger's name, ``caption``, ``prepare`` ...
    """

    name: str
    category: Category = "general"
    score: float | None = None
    source: str = CAPTION

    def json(self) -> list[Any]:
        """``[name, category, score, source]``"""
        score = None if self.score is None else round(self.score, 4)
        return [self.name, self.category, score, self.source]


def tag_from_json(value: Any) -> Tag:
    """The tag that :meth:`Tag.json` wrote.

    Raises:
        DatasetError: if it is none.
    """
    match value:
        case [str(name), str(category), None | int() | float() as score, str(source)] if category in _CATEGORIES:
            return _tag(name, category, score, source)  # type: ignore[arg-type]  # the guard says which it is
    raise DatasetError(f"{value!r} is no tag; a tag is [name, category, score, source]")


@lru_cache(1 << 16)
def _tag(name: str, category: Category, score: float | None, source: str) -> Tag:
    """A folder has the same tags over and over."""
    return Tag(name, category, score, source)


def unique(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    """The tags without repetitions of a name, whatever its case; the first of each stays."""
    first: dict[str, Tag] = {}
    for tag in tags:
        first.setdefault(tag.name.lower(), tag)
    return tuple(first.values())
