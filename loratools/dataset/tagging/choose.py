"""From a tagger's probabilities to a picture's tags: thresholds by category, ratings apart, an order."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from loratools.dataset.tagging.probabilities import Scores
from loratools.dataset.tagging.thresholds import MCUT_LEAST, Threshold, mcut
from loratools.dataset.tags.tag import NOT_TRAINED, Category, Tag

Place = Literal["first", "last", "none"]
_NAMED: tuple[Category, ...] = ("character", "copyright")  # names, which get their own threshold and place
_ONE_OF: tuple[Category, ...] = ("rating", "quality")  # of these the most probable one is meant


@dataclass(frozen=True)
class TagChoice:
    """Which tags are written, and in which order.

    Attributes:
        characters: where names of characters and series go; ``none`` sets them aside.
        rating: where the rating goes; set aside by default.
        order: of general tags: by ``score``, or as the ``model`` lists them.
        exclude: tags, with ``*`` and ``?``, that are never written.
    """

    threshold: Threshold
    character_threshold: Threshold
    characters: Place = "first"
    rating: Place = "none"
    order: Literal["score", "model"] = "score"
    exclude: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Chosen:
    """The tags of a caption, and those that are known and left out of it."""

    tags: tuple[Tag, ...]
    set_aside: tuple[Tag, ...]


def choose(scores: Scores, choice: TagChoice, source: str) -> Chosen:
    """The tags that ``choice`` takes of what a tagger says.

    Args:
        source: the tagger's name, which the tags keep.
    """
    by_category = {category: _taken(scores, category, choice, source) for category in scores.tags}
    names = [tag for category in _NAMED for tag in by_category.get(category, [])]
    rating = by_category.get("rating", [])
    free = [tag for name, tags in by_category.items() if _is_free(name) for tag in tags]
    if choice.order == "score":
        free.sort(key=lambda tag: -(tag.score or 0.0))
    aside = [tag for name, tags in by_category.items() if name in NOT_TRAINED and name != "rating" for tag in tags]
    aside += names if choice.characters == "none" else []
    aside += rating if choice.rating == "none" else []
    tags = [
        *(rating if choice.rating == "first" else []),
        *(names if choice.characters == "first" else []),
        *free,
        *(names if choice.characters == "last" else []),
        *(rating if choice.rating == "last" else []),
    ]
    return Chosen(tuple(tags), tuple(aside))


def _is_free(category: str) -> bool:
    return category not in _NAMED and category not in NOT_TRAINED


def _taken(scores: Scores, category: str, choice: TagChoice, source: str) -> list[Tag]:
    values = scores.tags[category]
    kind: Category = category  # type: ignore[assignment]  # Scores have no others
    if category in _ONE_OF:
        best = max(values, key=lambda name: values[name], default=None)
        return [] if best is None else [Tag(best, kind, values[best], source)]
    threshold = choice.character_threshold if category in _NAMED else choice.threshold
    least = _least(values, scores.below.get(category), threshold, category)
    taken = [Tag(name, kind, value, source) for name, value in values.items() if value >= least]
    return list(_not_excluded(taken, choice.exclude))


def _least(values: Mapping[str, float], below: float | None, threshold: Threshold, category: str) -> float:
    if threshold.value is not None:
        return threshold.value
    every = [*values.values(), *([] if below is None else [below])]
    return mcut(every, MCUT_LEAST.get(category, 0.0))


def _not_excluded(tags: list[Tag], patterns: tuple[str, ...]) -> Iterator[Tag]:
    for tag in tags:
        if not any(fnmatch.fnmatchcase(tag.name.lower(), pattern.lower()) for pattern in patterns):
            yield tag
