"""What a filter is asked about: a picture, a tag of it, and how common the tag is in the folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from loratools.dataset.edits.expression import TagPattern
from loratools.dataset.edits.expression import normal as spelled
from loratools.dataset.folder import Size
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag

normal = cache(spelled)  # a folder has the same few thousand tags over and over


@dataclass(frozen=True)
class TagCounts:
    """How many of so many pictures have each tag.

    Attributes:
        counts: by the tag's :func:`normal` spelling.
    """

    pictures: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> TagCounts:
        """Those of some pictures."""
        total, counts = 0, Counter[str]()
        for picture in pictures:
            total += 1
            counts.update({normal(tag.name) for tag in picture.tags})
        return cls(total, counts)

    def count(self, tag: str) -> int:
        """In how many pictures a tag is."""
        return self.counts.get(normal(tag), 0)

    def share(self, tag: str) -> float:
        """In which share of the pictures a tag is, 0 to 1."""
        return self.count(tag) / self.pictures if self.pictures else 0.0


@dataclass(frozen=True)
class TaggedPicture:
    """A :class:`.expression.Subject`.

    Attributes:
        tag: the one that an operation is about.
        size_of: reads a picture's size, where a filter asks for it.
    """

    picture: Picture
    counts: TagCounts
    size_of: Callable[[Picture], Size]
    tag: Tag | None = None
    names: frozenset[str] = field(default=frozenset())

    def of(self, tag: Tag) -> TaggedPicture:
        """The same picture, asked about one of its tags."""
        return TaggedPicture(self.picture, self.counts, self.size_of, tag, self.names)

    @property
    def file(self) -> str:
        """Path from the dataset folder."""
        return self.picture.file

    def has(self, pattern: TagPattern) -> bool:
        """Whether one of the picture's tags matches; of the operation's own tag nothing is asked."""
        names = self.names or {normal(tag.name) for tag in self.picture.tags}
        return pattern.named_by(names)

    def value(self, field: str) -> float | str | None:
        """A field of the picture, or of the tag."""
        match field:
            case "tags":
                return len(self.picture.tags)
            case "width":
                return self.size_of(self.picture)[0]
            case "height":
                return self.size_of(self.picture)[1]
            case "ratio":
                width, height = self.size_of(self.picture)
                return width / height
            case "folder":
                return self.picture.file.rpartition("/")[0]
            case "file" | "group":
                return str(getattr(self.picture, field))
        return None if self.tag is None else self._of_tag(self.tag, field)

    def _of_tag(self, tag: Tag, field: str) -> float | str | None:
        match field:
            case "share":
                return self.counts.share(tag.name)
            case "count":
                return self.counts.count(tag.name)
            case "score":
                return tag.score
        return str(getattr(tag, field))
