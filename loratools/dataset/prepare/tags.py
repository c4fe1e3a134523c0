"""What the tags of a picture become when it is cropped, put on white, or freed of text."""

from __future__ import annotations

from typing import Final

from loratools.dataset.tags.tag import Tag, unique
from loratools.dataset.tags.vocabulary import (
    FACE,
    FLAT_BACKGROUND,
    FRAMING,
    FRAMING_OF,
    LEGS,
    MAIN,
    TEXT_TAGS,
    TRANSPARENT,
)

SOURCE: Final = "prepare"  # of tags that are written here
_FEET: Final = LEGS - {"skirt", "pants", "shorts", "thighs", "thighhighs", "standing", "knees", "legs", "pantyhose"}


def on_white(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
    """The tags of a transparent picture once it is on white: guide 003's ``white background, simple background``."""
    flat = [Tag(name, source=SOURCE) for name in FLAT_BACKGROUND]
    named = any(tag.name.lower() == TRANSPARENT for tag in tags)
    kept = [one for tag in tags for one in (flat if tag.name.lower() == TRANSPARENT else [tag])]
    return unique(kept if named or not tags else [*kept, *flat])


def of_crop(tags: tuple[Tag, ...], kind: str) -> tuple[Tag, ...]:
    """The tags of a crop of class ``kind``: its own framing in place of the whole picture's, nothing that it does not
    show, such as the shoes of a face."""
    gone = LEGS if kind == FACE else _FEET if kind == MAIN else frozenset()
    framing = Tag(FRAMING_OF[kind], source=SOURCE)
    kept: list[Tag] = []
    placed = False
    for tag in tags:
        name = tag.name.lower()
        if name in FRAMING:
            kept += [] if placed else [framing]
            placed = True
        elif name not in gone:
            kept.append(tag)
    return unique(kept if placed else [*kept, framing])


def without_text(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
    """The tags without those that speak of text, which is not to be seen, or not learnt, any more."""
    return tuple(tag for tag in tags if tag.name.lower() not in TEXT_TAGS)
