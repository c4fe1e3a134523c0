"""Operations on a picture's tags: add, remove, replace, move, sort, trigger and prune, as values that a log can hold.

Each is a function of the picture alone; which of its tags it may touch is asked of a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol, get_args

from loratools.dataset.edits.expression import tag_pattern
from loratools.dataset.edits.prune import PruneRules, redundant
from loratools.dataset.edits.subject import normal
from loratools.dataset.tags.names import written_name
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag
from loratools.dataset.tags.vocabulary import COUNTS
from loratools.errors import OptionError, did_you_mean

Allowed = Callable[[Tag], bool]  # whether the filter lets an operation touch a tag
SOURCE = "edit"  # of tags that an operation adds
_FIRST = ("solo",)


class Operation(Protocol):
    """One bulk edit.

    Attributes:
        about_tags: whether it chooses among a picture's tags, so that a filter may ask for a tag's share or score.
    """

    kind: ClassVar[str]
    about_tags: ClassVar[bool]

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture after it."""


@dataclass(frozen=True)
class Add:
    """Tags that a picture lacks are added at a place: ``front``, ``end``, or a number from 1."""

    kind: ClassVar[str] = "add"
    about_tags: ClassVar[bool] = False
    tags: tuple[str, ...]
    at: str = "end"

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture with the tags; those that it has stay where they are."""
        there = {normal(tag.name) for tag in picture.tags}
        new = [Tag(name, source=SOURCE) for name in self.tags if normal(name) not in there]
        return _inserted(picture, picture.tags, new, self.at) if new else picture


@dataclass(frozen=True)
class Remove:
    """Tags that one of the patterns names go."""

    kind: ClassVar[str] = "remove"
    about_tags: ClassVar[bool] = True
    tags: tuple[str, ...]

    @cached_property
    def matches(self) -> Callable[[Tag], bool]:
        """Whether a tag is meant."""
        return matcher(self.tags)

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture without them."""
        return _kept(picture, [tag for tag in picture.tags if not (self.matches(tag) and allowed(tag))])


@dataclass(frozen=True)
class Replace:
    """Where a picture has a tag that the pattern names, others take its place; none is there twice."""

    kind: ClassVar[str] = "replace"
    about_tags: ClassVar[bool] = True
    tags: tuple[str, ...]
    by: tuple[str, ...]

    @cached_property
    def matches(self) -> Callable[[Tag], bool]:
        """Whether a tag is meant."""
        return matcher(self.tags)

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture with the new tags."""
        known = {normal(tag.name): tag for tag in picture.tags}
        result: list[Tag] = []
        replaced = False
        for tag in picture.tags:
            if self.matches(tag) and allowed(tag):
                replaced = True
                result += [known.get(normal(name), Tag(name, tag.category, source=SOURCE)) for name in self.by]
            else:
                result.append(tag)
        return picture.with_tags(result) if replaced else picture


@dataclass(frozen=True)
class Move:
    """Tags that a pattern names move to a place: ``front``, ``end``, or a number from 1. They keep the patterns'
    order."""

    kind: ClassVar[str] = "move"
    about_tags: ClassVar[bool] = True
    tags: tuple[str, ...]
    at: str = "front"

    @cached_property
    def matchers(self) -> list[Callable[[Tag], bool]]:
        """Whether a tag is one that a pattern means, pattern by pattern."""
        return [matcher((pattern,)) for pattern in self.tags]

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture with its tags in the new order."""
        moved: list[Tag] = []
        for matches in self.matchers:
            moved += [tag for tag in picture.tags if matches(tag) and allowed(tag) and tag not in moved]
        if not moved:
            return picture
        return _inserted(picture, [tag for tag in picture.tags if tag not in moved], moved, self.at)


@dataclass(frozen=True)
class Sort:
    """Tags in an order: ``usual`` (how many people, then characters, then by score where there is one, else as they
    stand), ``score`` or ``name``. The first ``keep`` stay where they are."""

    kind: ClassVar[str] = "sort"
    about_tags: ClassVar[bool] = False
    by: str = "usual"
    keep: int = 0

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture with its tags in order."""
        keys: dict[str, Callable[[Tag], Any]] = {
            "usual": _usual,
            "score": lambda tag: -(tag.score or 0.0),
            "name": lambda tag: normal(tag.name),
        }
        return _kept(picture, [*picture.tags[: self.keep], *sorted(picture.tags[self.keep :], key=keys[self.by])])


@dataclass(frozen=True)
class Trigger:
    """A word at the front of every caption; ``instead_of`` is one that it replaces."""

    kind: ClassVar[str] = "trigger"
    about_tags: ClassVar[bool] = False
    word: str
    instead_of: str = ""

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture with the word as its first tag."""
        old = {normal(self.word), normal(self.instead_of)}
        rest = [tag for tag in picture.tags if normal(tag.name) not in old]
        return _kept(picture, [Tag(self.word, source=SOURCE), *rest])


@dataclass(frozen=True)
class Prune:
    """Tags go that say nothing, or nothing new: see :mod:`.prune`."""

    kind: ClassVar[str] = "prune"
    about_tags: ClassVar[bool] = True
    rules: PruneRules

    def apply(self, picture: Picture, allowed: Allowed) -> Picture:
        """The picture without them."""
        gone = redundant(picture, self.rules)
        return _kept(picture, [tag for tag in picture.tags if normal(tag.name) not in gone or not allowed(tag)])


AnyOperation = Add | Remove | Replace | Move | Sort | Trigger | Prune
KINDS: dict[str, type[AnyOperation]] = {operation.kind: operation for operation in get_args(AnyOperation)}


def operation_json(operation: AnyOperation) -> dict[str, Any]:
    """An operation as JSON values; what is at its default is left out."""
    value = {"kind": operation.kind, **asdict(operation)}
    return {name: item for name, item in value.items() if item not in ("", (), None, False)}


def operation_from_json(value: Mapping[str, Any]) -> AnyOperation:
    """The operation that :func:`operation_json` wrote.

    Raises:
        OptionError: naming the key that is unknown, missing, or of the wrong type.
    """
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        hint = did_you_mean(str(value.get("kind")), KINDS)
        raise OptionError(f"there is no operation '{value.get('kind')}'{hint}; there are {', '.join(KINDS)}")
    given = {name: item for name, item in value.items() if name != "kind"}
    known = [each.name for each in fields(kind)]
    for name, item in given.items():
        if name not in known:
            raise OptionError(
                f"'{kind.kind}' has no option '{name}'{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
        if name == "rules":
            given[name] = PruneRules.from_json(item)
        elif name in ("tags", "by") and kind.kind != "sort":
            given[name] = tag_list(item, name)
        elif name == "keep" and (not isinstance(item, int) or item < 0):
            raise OptionError(f"'keep' of '{kind.kind}' is {item!r}; write a number of tags from 0")
    missing = next((each for each in ("tags", "by", "word") if each in known and not given.get(each)), "")
    if missing and kind is not Sort:
        raise OptionError(f"'{kind.kind}' needs '{missing}'; write it as text, tags apart by commas")
    return checked(kind(**given))


def checked(operation: AnyOperation) -> AnyOperation:
    """The operation; OptionError if a place or an order is none that there is."""
    at = getattr(operation, "at", "front")
    if at not in ("front", "end") and not (str(at).isdigit() and int(at) >= 1):
        raise OptionError(f"the place '{at}' is none; write front, end, or a number from 1")
    if isinstance(operation, Sort) and operation.by not in ("usual", "score", "name"):
        raise OptionError(f"there is no order '{operation.by}'; there are usual, score and name")
    words = [*getattr(operation, "by", ()), getattr(operation, "word", "x")] if not isinstance(operation, Sort) else []
    if isinstance(operation, Add):
        words += operation.tags
    for word in words:
        if "," in word or len(word.splitlines()) != 1 or not word.strip():
            raise OptionError(f"'{word}' is no tag: a tag is on one line and has no comma")
    return operation


def tag_list(value: Any, name: str = "tags") -> tuple[str, ...]:
    """Tags from ``"a, b"`` or ``["a", "b"]``, as captions have them.

    Raises:
        OptionError: if they are neither.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise OptionError(f"'{name}' is {value!r}; write tags apart by commas")
    return tuple(dict.fromkeys(written_name(part) for part in parts if part.strip()))


def matcher(patterns: Sequence[str]) -> Callable[[Tag], bool]:
    """Whether a tag is one that ``patterns`` name."""
    read = [tag_pattern(pattern) for pattern in patterns]
    exact = {pattern.name for pattern in read if pattern.compiled is None}
    several = [pattern.compiled.match for pattern in read if pattern.compiled is not None]

    @cache
    def named(name: str) -> bool:
        return name in exact or any(match(name) for match in several)

    return lambda tag: named(normal(tag.name))


def _usual(tag: Tag) -> tuple[int, float]:
    name = normal(tag.name)
    if name in _FIRST:
        return 0, 0.0
    if COUNTS.fullmatch(name):
        return 1, 0.0
    return (2, 0.0) if tag.category == "character" else (3, -(tag.score or 0.0))


def _inserted(picture: Picture, tags: Sequence[Tag], new: Sequence[Tag], at: str) -> Picture:
    place = {"front": 0, "end": len(tags)}.get(at)
    place = int(at) - 1 if place is None else place
    return _kept(picture, [*tags[:place], *new, *tags[place:]])


def _kept(picture: Picture, tags: Sequence[Tag]) -> Picture:
    return picture if tuple(tags) == picture.tags else picture.with_tags(tags)
