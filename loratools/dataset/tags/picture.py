"""A picture of a dataset folder with all that is known of it but its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loratools.dataset.tags.tag import Tag, tag_from_json, unique
from loratools.dataset.tags.vocabulary import CLASSES, VARIANTS
from loratools.errors import DatasetError

_NUMBER_END = "_"


@dataclass(frozen=True)
class Picture:
    """One picture and its tags.

    Attributes:
        file: its path in the dataset folder, with ``/`` between names.
        tags: those of its caption, in order.
        set_aside: known and left out of the caption: the site's own words, artist, rating.
        sentence: of natural language; it stands after the tags.
        group: pictures that share one are variants of one another; empty if it stands alone.
        origin: where it came from, as JSON values: ``site``, ``id``, ``parent``, ``source``; of a prepared picture the
            original's file and the crop.
    """

    file: str
    tags: tuple[Tag, ...] = ()
    set_aside: tuple[Tag, ...] = ()
    sentence: str = ""
    group: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)

    def caption(self) -> str:
        """The text of its caption file."""
        return ", ".join([*(tag.name for tag in self.tags), *([self.sentence] if self.sentence else [])])

    def names(self) -> frozenset[str]:
        """The names of its tags in lower case."""
        return frozenset(tag.name.lower() for tag in self.tags)

    def with_tags(self, tags: Iterable[Tag]) -> Picture:
        """The same picture with these tags; of tags of one name the first stays."""
        return replace(self, tags=unique(tuple(tags)))

    @property
    def numbered_word(self) -> str:
        """``face`` of ``10_face/a.png``: the word of the numbered folder that it lies in; empty where it lies in
        none."""
        for name in reversed(self.file.split("/")[:-1]):
            number, line, word = name.partition(_NUMBER_END)
            if line and number.isdigit():
                return word
        return ""

    @property
    def framing_class(self) -> str:
        """``face``, ``main``, ``full`` or ``other``, if its folder says so; else empty."""
        word = self.numbered_word.removesuffix(VARIANTS)
        return word if word in CLASSES else ""

    def json(self) -> dict[str, Any]:
        """What a caption cannot hold, for the record; empty values are left out."""
        value: dict[str, Any] = {"file": self.file, "tags": [tag.json() for tag in self.tags]}
        if self.set_aside:
            value["set_aside"] = [tag.json() for tag in self.set_aside]
        more = {"sentence": self.sentence, "group": self.group, "origin": dict(self.origin)}
        return value | {name: item for name, item in more.items() if item}


def picture_from_json(value: Any) -> Picture:
    """The picture that :meth:`Picture.json` wrote.

    Raises:
        DatasetError: if it is none.
    """
    if not isinstance(value, dict) or not isinstance(value.get("file"), str):
        raise DatasetError("it names no 'file'")
    texts = {name: value.get(name, "") for name in ("sentence", "group")}
    origin = value.get("origin", {})
    lists = [value.get("tags", []), value.get("set_aside", [])]
    if not (all(isinstance(text, str) for text in texts.values()) and isinstance(origin, dict)):
        raise DatasetError("sentence and group are text, origin is an object")
    if not all(isinstance(one, list) for one in lists):
        raise DatasetError("tags are a list")
    tags, aside = (tuple(map(tag_from_json, one)) for one in lists)
    return Picture(value["file"], tags, aside, texts["sentence"], texts["group"], origin)
